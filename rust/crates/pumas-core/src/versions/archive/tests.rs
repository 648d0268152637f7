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
fn what_macos_packs_beside_a_folder_is_none_of_its() {
    let beside = ["__MACOSX/top/._main.py", "._top", ".DS_Store"].map(|name| file(name, b"x"));
    let mut members = vec![file("top/main.py", b"print()\n")];
    members.extend(beside);
    let (place, done) = unpacked(&zipped(&members), Limits::default());
    done.unwrap();
    let target = place.path().join("a/b/target");
    assert_eq!(single_folder(&target).unwrap(), target.join("top"));
    std::fs::write(target.join("README"), b"x").unwrap();
    assert_eq!(single_folder(&target).unwrap(), target);
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

/// One entry of a zip as it stands there, whatever a library would think of it.
#[derive(Clone)]
struct Raw {
    name: Vec<u8>,
    data: Vec<u8>,
    mode: u32,
    flags: u16,
    extra: Vec<u8>,
    method: u16,
    /// The name in its own head, where that is another.
    head: Option<Vec<u8>>,
    /// The size that is told, where that is another.
    claimed: Option<u32>,
    /// The place of another member's head that is given for its own.
    at: Option<u32>,
}

fn raw(name: &[u8], data: &[u8]) -> Raw {
    Raw {
        name: name.to_vec(),
        data: data.to_vec(),
        mode: 0o100_644,
        flags: 0,
        extra: Vec::new(),
        method: 0,
        head: None,
        claimed: None,
        at: None,
    }
}

/// With another number of members than there are, and with ZIP64's end, too.
fn zipped_by_hand(members: &[Raw], count: Option<u64>, zip64: bool) -> Vec<u8> {
    let short = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
    let long = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for member in members {
        let mut crc = Crc::new();
        crc.update(&member.data);
        let size = member
            .claimed
            .unwrap_or(u32::try_from(member.data.len()).unwrap());
        let begins = [
            20_u16.to_le_bytes(),
            member.flags.to_le_bytes(),
            member.method.to_le_bytes(),
            [0; 2],
            [0; 2],
        ];
        let facts = [
            crc.sum().to_le_bytes(),
            long(member.data.len()),
            size.to_le_bytes(),
        ];
        let place = member.at.map_or_else(|| long(out.len()), u32::to_le_bytes);
        let head = member.head.as_ref().unwrap_or(&member.name);
        let fixed = [begins.concat(), facts.concat()].concat();
        out.extend(
            [
                b"PK\x03\x04",
                &fixed[..],
                &short(head.len()),
                &[0, 0],
                head,
                &member.data,
            ]
            .concat(),
        );
        let lengths = [short(member.name.len()), short(member.extra.len())].concat();
        let modes = [&[0; 6][..], &(member.mode << 16).to_le_bytes(), &place].concat();
        list.extend(
            [
                b"PK\x01\x02\x14\x03",
                &fixed[..],
                &lengths,
                &modes,
                &member.name,
                &member.extra,
            ]
            .concat(),
        );
    }
    let count = count.unwrap_or(members.len() as u64);
    let begins = out.len();
    out.extend_from_slice(&list);
    let mut told = u16::try_from(count & 0xffff).unwrap().to_le_bytes();
    if zip64 {
        let here = out.len() as u64;
        let places = [count, count, list.len() as u64, begins as u64]
            .map(u64::to_le_bytes)
            .concat();
        out.extend(
            [
                b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0",
                &places[..],
            ]
            .concat(),
        );
        out.extend([b"PK\x06\x07\0\0\0\0", &here.to_le_bytes()[..], &[1, 0, 0, 0]].concat());
        told = [0xff; 2];
    }
    let end = [&told[..], &told, &long(list.len()), &long(begins), &[0, 0]].concat();
    [&out[..], b"PK\x05\x06\0\0\0\0", &end].concat()
}

/// The field 0x7075: a name in UTF-8 for the one that stands in the archive.
fn unicode_path(name: &[u8], of: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(of);
    let length = u16::try_from(name.len() + 5).unwrap().to_le_bytes();
    [b"\x75\x70", &length[..], &[1], &crc.sum().to_le_bytes(), name].concat()
}

#[test]
fn names_in_a_zip_are_read_as_the_format_says() {
    let utf8 = 1 << 11;
    let high: Vec<u8> = (0x80..=0xff).collect();
    let repeated = |name: &[u8], extra: Vec<u8>| Raw {
        extra,
        ..raw(name, b"")
    };
    for (member, name) in [
        (raw(b"gr\x81n.txt", b""), "grün.txt"),
        (raw(&high[..32], b""), "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ"),
        (raw(&high[32..64], b""), "áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"),
        (raw(&high[64..96], b""), "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"),
        (raw(&high[96..], b""), "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}"),
        (raw("grün.txt".as_bytes(), b""), "gr├╝n.txt"),
        (
            Raw {
                flags: utf8,
                ..raw("grün.txt".as_bytes(), b"")
            },
            "grün.txt",
        ),
        (
            repeated(b"gr?n", unicode_path("grün".as_bytes(), b"gr?n")),
            "grün",
        ),
        (repeated(b"gr\x81n", unicode_path(b"other", b"before")), "grün"),
        (repeated(b"gr\x81n", unicode_path(b"", b"gr\x81n")), "grün"),
        (
            repeated(b"gr\x81n", unicode_path(b"cut", b"gr\x81n")[..11].to_vec()),
            "grün",
        ),
        (
            Raw {
                flags: utf8,
                ..repeated(b"plain", unicode_path(b"other", b"plain"))
            },
            "plain",
        ),
        (raw(b"a/b.txt\0.exe", b""), "a/b.txt"),
    ] {
        let (place, done) = unpacked(&zipped_by_hand(&[member], None, false), Limits::default());
        done.unwrap();
        assert!(place.path().join("a/b/target").join(name).is_file(), "{name}");
    }
}

#[test]
fn what_a_zip_cannot_mean_is_refused() {
    let link = |data: &[u8], claimed| Raw {
        mode: 0o120_777,
        claimed,
        ..raw(b"a", data)
    };
    let inner = zipped_by_hand(&[raw(b"b", &[0; 999])], None, false);
    let inside = &inner[..memchr::memmem::find(&inner, b"PK\x01\x02").unwrap()];
    let of_another = |at| Raw {
        at: Some(at),
        ..raw(b"b", &[0; 999])
    };
    for (members, says) in [
        (
            vec![Raw {
                flags: 1 << 11,
                ..raw(b"a\xff", b"")
            }],
            "not well-formed text",
        ),
        (
            vec![Raw {
                extra: unicode_path(b"../out", b"a"),
                ..raw(b"a", b"")
            }],
            "plain folder names",
        ),
        (
            vec![Raw {
                extra: unicode_path(b"\x01", b"a"),
                ..raw(b"a", b"")
            }],
            "control characters",
        ),
        (
            vec![
                raw(b"\x81", b""),
                Raw {
                    flags: 1 << 11,
                    ..raw("ü".as_bytes(), b"")
                },
            ],
            "two members of one name",
        ),
        (
            vec![Raw {
                head: Some(b"b".to_vec()),
                ..raw(b"a", b"")
            }],
            "another name than in the list",
        ),
        (
            vec![Raw {
                method: 12,
                ..raw(b"a", b"")
            }],
            "unusual way",
        ),
        (
            vec![raw(b"a", b"x"), of_another(1 << 31)],
            "not where it should be",
        ),
        (vec![raw(b"a", inside), of_another(31)], "overlap"),
        (vec![link(b"\xff", None)], "not well-formed text"),
        (vec![link(&[b'b'; 2_000_000], Some(9))], "longer than it says"),
        (vec![link(b"b", Some(9))], "ends too early"),
        (
            vec![Raw {
                claimed: Some(8),
                ..raw(b"a", &[1; 9])
            }],
            "longer than it says",
        ),
        (
            vec![Raw {
                claimed: Some(10),
                ..raw(b"a", &[1; 9])
            }],
            "ends too early",
        ),
    ] {
        check_refused(&zipped_by_hand(&members, None, false), Limits::default(), says);
    }
}

#[test]
fn a_zip_of_too_many_members_is_refused_before_anything_is_written() {
    let members: Vec<Raw> = (0..11).map(|n| raw(n.to_string().as_bytes(), b"")).collect();
    let limits = Limits {
        members: 10,
        ..Limits::default()
    };
    for (count, members, zip64) in [
        (None, 11, false),
        (None, 11, true),
        (Some(1), 11, false),
        (Some(1), 11, true),
        (Some(11), 1, false),
        (Some(1 << 60), 1, true),
    ]
    .map(|(count, number, zip64)| (count, &members[..number], zip64))
    {
        let data = zipped_by_hand(members, count, zip64);
        check_refused(&data, limits, "it has more than 10 members");
        let (place, _) = unpacked(&data, limits);
        assert_eq!(
            std::fs::read_dir(place.path().join("a/b/target"))
                .unwrap()
                .count(),
            0
        );
    }
    for (count, zip64) in [(1, false), (3, false), (1, true), (3, true), (2 + 65_536, true)] {
        let data = zipped_by_hand(&members[..2], Some(count), zip64);
        check_refused(&data, Limits::default(), "another number of members");
    }
}

#[test]
fn numbers_of_members_that_need_more_than_sixteen_bits() {
    for number in [65_535, 65_536, 65_538] {
        // Where the number is taken for good, the first member is looked at.
        let mut members = vec![raw(b"x", b""); number];
        members[0].flags = 1;
        for zip64 in [false, true] {
            let data = zipped_by_hand(&members, None, zip64);
            check_refused(&data, Limits::default(), "a member is encrypted");
        }
    }
}

#[test]
fn an_end_of_zip64_without_a_beginning_is_damage() {
    for before in [0, 10, 60] {
        let end = [&b"PK\x05\x06\0\0\0\0"[..], &[0xff; 12], &[0, 0]].concat();
        let data = [
            &b"PK\x03\x04"[..],
            &vec![0; before],
            b"PK\x06\x07",
            &[0; 16],
            &end,
        ]
        .concat();
        check_refused(&data, Limits::default(), "");
    }
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
fn a_tape_as_old_programs_wrote_it() {
    let mut old = tarred(&[file("a", b"x")]);
    old.truncate(1024);
    let mut folder = tarred(&[file("d/", b"")])[..512].to_vec();
    // Type '5' becomes 0, and the sum of all bytes, in octal numbers, smaller by as much.
    folder[156] = 0;
    folder[148..156].fill(b' ');
    let sum: u32 = folder.iter().map(|byte| u32::from(*byte)).sum();
    folder[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let tape = [old, folder, vec![0; 1024]].concat();
    let parts = [
        gzipped(&tape[..700]),
        vec![0; 9],
        gzipped(&tape[700..]),
        vec![0; 300_000],
    ];
    let (place, done) = unpacked(&parts.concat(), Limits::default());
    assert_eq!(done.unwrap(), 1);
    assert!(place.path().join("a/b/target/d").is_dir());
    check_refused(
        &[parts.concat(), b"x".to_vec()].concat(),
        Limits::default(),
        "damaged",
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
