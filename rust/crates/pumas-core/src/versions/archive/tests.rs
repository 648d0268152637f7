use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use flate2::Crc;
use flate2::write::{DeflateEncoder, GzEncoder};
use proptest::prelude::*;

use super::*;

#[derive(Clone)]
struct Member {
    name: String,
    data: Vec<u8>,
    link: Option<String>,
    mode: u32,
}

fn file(name: &str, data: &[u8]) -> Member {
    Member {
        name: name.to_owned(),
        data: data.to_vec(),
        link: None,
        mode: 0o644,
    }
}

fn link(name: &str, target: &str) -> Member {
    Member {
        link: Some(target.to_owned()),
        ..file(name, b"")
    }
}

/// A header as it is written, whatever a library would think of the name.
fn tarred(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    let block = |out: &mut Vec<u8>, kind: u8, name: &[u8], link: &[u8], data: &[u8], mode: u32| {
        let mut header = [0_u8; 512];
        let fill = |header: &mut [u8; 512], at: usize, text: &[u8]| {
            header[at..at + text.len()].copy_from_slice(text);
        };
        fill(&mut header, 0, &name[..name.len().min(100)]);
        fill(&mut header, 100, format!("{mode:07o}").as_bytes());
        fill(&mut header, 108, b"0000000\x000000000\x00");
        fill(&mut header, 124, format!("{:011o}", data.len()).as_bytes());
        fill(&mut header, 136, b"00000000000\x00        ");
        header[156] = kind;
        fill(&mut header, 157, &link[..link.len().min(100)]);
        fill(&mut header, 257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        fill(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
    };
    for member in members {
        let (name, target) = (
            member.name.as_bytes(),
            member.link.as_deref().unwrap_or("").as_bytes(),
        );
        if name.len() > 100 {
            block(
                &mut out,
                b'L',
                b"././@LongLink",
                b"",
                &[name, b"\0"].concat(),
                0o644,
            );
        }
        let kind = match (&member.link, member.name.ends_with('/')) {
            (Some(_), _) => b'2',
            (None, true) => b'5',
            (None, false) => b'0',
        };
        block(&mut out, kind, name, target, &member.data, member.mode);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(data).unwrap();
    packer.finish().unwrap()
}

fn zipped(members: &[Member]) -> Vec<u8> {
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for (number, member) in members.iter().enumerate() {
        let target = member.link.as_ref().map(|target| target.as_bytes().to_vec());
        let mode = if target.is_some() {
            0o120_777
        } else {
            0o100_000 | member.mode
        };
        let data = target.unwrap_or_else(|| member.data.clone());
        let mut crc = Crc::new();
        crc.update(&data);
        let (method, packed) = if number % 2 == 0 {
            (0_u16, data.clone())
        } else {
            let mut packer = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(&data).unwrap();
            (8, packer.finish().unwrap())
        };
        let size = |data: &[u8]| u32::try_from(data.len()).unwrap().to_le_bytes();
        let length = u16::try_from(member.name.len()).unwrap().to_le_bytes();
        let facts = [
            &crc.sum().to_le_bytes()[..],
            &size(&packed),
            &size(&data),
            &length,
            &[0, 0],
        ]
        .concat();
        let offset = size(&out);
        let start = [&[20, 0, 0, 8][..], &method.to_le_bytes(), &[0, 0, 0, 0], &facts].concat();
        out.extend([b"PK\x03\x04", &start[..], member.name.as_bytes(), &packed[..]].concat());
        let rest = [&[0; 6][..], &((mode & 0xFFFF) << 16).to_le_bytes(), &offset].concat();
        list.extend(
            [
                b"PK\x01\x02\x14\x03",
                &start[..],
                &rest[..],
                member.name.as_bytes(),
            ]
            .concat(),
        );
    }
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let end = [
        b"PK\x05\x06\0\0\0\0",
        &count[..],
        &count,
        &number(list.len()),
        &number(out.len()),
        &[0, 0],
    ]
    .concat();
    [out, list, end].concat()
}

type Pack = fn(&[Member]) -> Vec<u8>;

const FORMS: [Pack; 4] = [
    zipped,
    tarred,
    |members| gzipped(&tarred(members)),
    |members| zstd::encode_all(&tarred(members)[..], 1).unwrap(),
];

fn unpacked(data: &[u8], limits: Limits) -> (tempfile::TempDir, Result<u64>) {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(place.path().join("a/b")).unwrap();
    let archive = place.path().join("archive.bin");
    std::fs::write(&archive, data).unwrap();
    let done = extract(&archive, &place.path().join("a/b/target"), &|_| Ok(()), limits);
    (place, done)
}

fn check_refused(data: &[u8], limits: Limits, says: &str) {
    let (place, done) = unpacked(data, limits);
    let error = done.unwrap_err();
    assert!(matches!(error, Error::UnsafeArchive { .. }), "{error}");
    assert!(error.to_string().contains(says), "{error}");
    let names = |folder: &Path| -> Vec<_> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect()
    };
    assert_eq!(names(&place.path().join("a")), ["b"]);
    assert!(names(&place.path().join("a/b")).len() <= 1);
    assert_eq!(names(place.path()).len(), 2);
}

#[test]
fn good_archives_come_out_as_they_were() {
    let program = Member {
        mode: 0o755,
        ..file("top/lib/deep/a.so.1", b"elf")
    };
    let long = format!("top/{}/x", "n".repeat(120));
    let members = [
        file("top/", b""),
        file("top/main.py", b"print()\n"),
        program,
        link("top/lib/a.so", "deep/a.so.1"),
        link("top/up/back", "../lib/a.so"),
        file("top/ünïcode/名前.txt", b"x"),
        file(&long, b"y"),
    ];
    for form in FORMS {
        let (place, done) = unpacked(&form(&members), Limits::default());
        assert_eq!(done.unwrap(), 8 + 3 + 1 + 1);
        let target = place.path().join("a/b/target");
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let top = single_folder(&target).unwrap();
        assert_eq!(top.file_name().unwrap(), "top");
        assert_eq!(std::fs::read(top.join("up/back")).unwrap(), b"elf");
        assert_eq!(
            top.join("lib/a.so").metadata().unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(std::fs::read(top.join("ünïcode/名前.txt")).unwrap(), b"x");
        assert_eq!(std::fs::read(target.join(&long)).unwrap(), b"y");
    }
}

#[test]
fn members_that_lead_out_are_refused() {
    let (long, deep) = ("n".repeat(300), ["d"; 600].join("/"));
    let names = [
        "../escaped",
        "ok/../../escaped",
        "/tmp/pumas-escaped",
        "a\\..\\escaped",
        "C:/escaped",
        "con",
        "name ",
        "a\x01b",
        &long,
        &deep,
    ];
    let links = [
        ("link", "/etc/passwd"),
        ("link", "../outside"),
        ("x/link", "../../outside"),
        ("link", "."),
        ("link", ""),
        ("link", "a\\b"),
    ];
    let odd = names
        .iter()
        .map(|name| file(name, b"x"))
        .chain(links.iter().map(|(name, to)| link(name, to)));
    for member in odd {
        for form in FORMS {
            check_refused(
                &form(&[file("first.txt", b"x"), member.clone()]),
                Limits::default(),
                "",
            );
        }
    }
}

#[test]
fn members_that_meet_are_refused() {
    for members in [
        vec![file("a.txt", b"1"), file("a.txt", b"2")],
        vec![file("a.txt", b"1"), file("A.TXT", b"2")],
        vec![file("e\u{301}", b"1"), file("é", b"2")],
        vec![file("a", b"1"), file("a/b", b"2")],
        vec![link("d", "x"), file("d/file", b"2"), file("x/y", b"")],
        vec![
            link("p/q/r/l", "../../../a"),
            file("a/f", b""),
            link("z", "p/q/r/l/../../.."),
        ],
        vec![link("l1", "l2"), link("l2", "l1/../../x")],
    ] {
        for form in FORMS {
            check_refused(&form(&members), Limits::default(), "");
        }
    }
}

#[test]
fn what_is_larger_than_any_limit_is_refused() {
    let zeros = file("zeros", &vec![0; 4 << 20]);
    let limits = Limits {
        members: 3,
        total: 5 << 20,
        ratio: 2,
        ratio_from: 1 << 20,
        margin: 0,
    };
    for form in FORMS {
        let few = form(&[file("1", b""), file("2", b""), file("3", b""), file("4", b"")]);
        check_refused(&few, limits, "more than 3 members");
        let free = Limits {
            ratio: 1_000_000,
            ..limits
        };
        check_refused(
            &form(&[
                zeros.clone(),
                Member {
                    name: "more".into(),
                    ..zeros.clone()
                },
            ]),
            free,
            "5,242,880 bytes",
        );
    }
    for packed in [FORMS[2], FORMS[3]] {
        check_refused(&packed(std::slice::from_ref(&zeros)), limits, "it");
    }
    let roomy = Limits {
        margin: u64::MAX / 2,
        ..Limits::default()
    };
    let (_place, done) = unpacked(&tarred(&[zeros]), roomy);
    assert_eq!(done.unwrap_err().kind(), "disk_full");
}

#[test]
fn what_is_cut_or_changed_is_damaged() {
    let members = [file("a", &[7; 5000]), file("b", &[8; 5000])];
    for (number, form) in FORMS.into_iter().enumerate() {
        let data = form(&members);
        check_refused(&data[..data.len() / 2], Limits::default(), "");
        if number != 1 {
            let mut flipped = data.clone();
            let middle = data.len() / 2;
            flipped[middle] ^= 0x10;
            let (_place, done) = unpacked(&flipped, Limits::default());
            assert!(done.is_err_and(|error| error.kind() == "unsafe_archive"));
        }
    }
    check_refused(
        b"#!/bin/sh\n",
        Limits::default(),
        "it is no zip, tar, tar.gz or tar.zst",
    );
}

#[test]
fn what_a_member_says_of_itself_is_bounded() {
    for form in &FORMS[1..] {
        let long = file(&"n/".repeat(2 << 20), b"x");
        check_refused(&form(&[long]), Limits::default(), "says more of itself");
    }
}

#[test]
fn whoever_asks_stops_it() {
    let place = tempfile::tempdir().unwrap();
    for (number, form) in FORMS.into_iter().enumerate() {
        let archive = place.path().join("x");
        std::fs::write(&archive, form(&[file("a", b"1")])).unwrap();
        let stop = |_| Err(Error::Cancelled("stop".to_owned()));
        let done = extract(
            &archive,
            &place.path().join(number.to_string()),
            &stop,
            Limits::default(),
        );
        assert!(matches!(done, Err(Error::Cancelled(_))), "{number}");
    }
}

proptest! {
    #[test]
    fn no_bytes_do_harm(form in 0..4_usize, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut data = FORMS[form](&[file("a/b", &[1; 700]), link("l", "a/b"), file("c", b"z")]);
        for (at, byte) in changes {
            let at = at.index(data.len());
            data[at] = byte;
        }
        let (place, done) = unpacked(&data, Limits { total: 1 << 20, ratio_from: 1 << 20, ..Limits::default() });
        if let Err(error) = done {
            prop_assert!(matches!(error, Error::UnsafeArchive { .. } | Error::NotEnoughSpace { .. }), "{error}");
        }
        prop_assert!(std::fs::read_dir(place.path()).unwrap().count() == 2);
    }
}
