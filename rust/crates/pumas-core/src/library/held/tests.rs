//! What is held against the search table: both find the same, in the same order, and count the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::contracts::schema;
use crate::library::entry::from_metadata;
use crate::library::facets::UsedBy;
use crate::library::search::{Filters, Searcher, Sort};
use crate::library::store::{Batch, apply};

const WORDS: [&str; 12] = [
    "alpha",
    "alphabet",
    "Alp",
    "beta",
    "bet-a",
    "Café",
    "Ünïcode",
    "7B",
    "Q4_K_M",
    "模型",
    "gamma",
    "g",
];
const QUERIES: [&str; 16] = [
    "alpha",
    "alp",
    "a",
    "b",
    "al be",
    "alpha beta gamma",
    "alphabet zzz",
    "cafe",
    "7",
    "q4 k",
    "g g a",
    "llm",
    "unico",
    "模",
    "diffusion gguf",
    "",
];

fn open() -> Connection {
    let c = Connection::open_in_memory().unwrap();
    c.execute_batch(schema::MODELS).unwrap();
    c
}

fn write(c: &Connection, models: &[(String, Value)], removed: &[String]) {
    let entries = models
        .iter()
        .map(|(id, metadata)| from_metadata(id, metadata.as_object().unwrap()).unwrap());
    let batch = Batch {
        entries: entries.collect(),
        removed_models: removed.to_vec(),
        ..Batch::default()
    };
    apply(c, &batch).unwrap();
}

fn learned(c: &Connection) -> Searcher {
    let searcher = Searcher::holding_from(0);
    searcher.learn(c, &|| false).unwrap();
    searcher
}

/// A searcher that never learned anything asks the search table.
fn unlearned() -> Searcher {
    Searcher::default()
}

fn check(c: &Connection, held: &Searcher, text: &str, filters: &Filters, limit: i64, offset: i64) {
    for sort in [
        Sort::Relevance,
        Sort::Newest,
        Sort::Name,
        Sort::Largest,
        Sort::Smallest,
    ] {
        let ask = |searcher: &Searcher| {
            let page = searcher
                .search(c, text, filters, Some(limit), offset, sort)
                .unwrap();
            (page.hits, page.total, page.query, page.matched)
        };
        let what = format!("{text:?} {filters:?} {limit} {offset} {sort:?}");
        assert_eq!(ask(held), ask(&unlearned()), "{what}");
        assert!(!held.is_behind(), "{what}");
    }
}

fn check_facets(c: &Connection, held: &Searcher, text: &str, filters: &Filters, used_by: &UsedBy) {
    let count = |searcher: &Searcher| {
        let counts = searcher.facets(c, text, filters, used_by).unwrap();
        // Texts, because the order counts.
        serde_json::to_string(&counts).unwrap()
    };
    assert_eq!(count(held), count(&unlearned()), "{text:?} {filters:?}");
}

fn model() -> impl Strategy<Value = Value> {
    let words = |most| proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..most);
    let kind = proptest::sample::select(&["llm", "diffusion", ""][..]);
    let family = proptest::sample::select(&["llama", "SDXL", "alpha"][..]);
    let file = proptest::sample::select(&["a.gguf", "a-Q4_K_M.gguf", "a.safetensors"][..]);
    let size = proptest::option::of(0..9_i64 << 30);
    (words(4), words(4), words(6), kind, family, file, size).prop_map(
        |(name, tags, description, kind, family, file, size)| {
            json!({
                "official_name": name.join(" "),
                "tags": tags,
                "description": description.join(" "),
                "model_type": kind,
                "family": family,
                "size_bytes": size,
                "files": [{"name": file, "size": 5}],
            })
        },
    )
}

fn filters() -> impl Strategy<Value = Filters> {
    let some = |values: &'static [&'static str]| {
        proptest::collection::vec(proptest::sample::select(values).prop_map(str::to_owned), 0..3)
    };
    let ids = proptest::option::weighted(0.2, proptest::collection::vec(0..40_usize, 0..30));
    (
        some(&["llm", "diffusion"]),
        some(&["ALPHA", "beta"]),
        some(&["sdxl", "alpha"]),
        some(&["gguf"]),
        some(&["q4_k_m"]),
        some(&["0", "4"]),
        ids,
    )
        .prop_map(
            |(model_types, tags, families, formats, quants, sizes, ids)| Filters {
                model_types,
                tags,
                subtype: None,
                families,
                formats,
                quants,
                sizes,
                ids: ids.map(|ids| ids.into_iter().map(id).collect()),
            },
        )
}

fn id(number: usize) -> String {
    format!("llm/x/m{number:04}")
}

fn numbered(models: impl IntoIterator<Item = Value>) -> Vec<(String, Value)> {
    let models = models.into_iter().enumerate();
    models.map(|(number, metadata)| (id(number), metadata)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_held_finds_what_the_search_table_finds(
        models in proptest::collection::vec(model(), 1..40),
        changed in proptest::collection::vec(model(), 0..8),
        filters in filters(),
        text in prop_oneof![
            proptest::sample::select(&QUERIES[..]).prop_map(str::to_owned),
            "[a-gA-G7é 模-]{0,12}",
        ],
        limit in 1..9_i64,
        offset in 0..9_i64,
    ) {
        let c = open();
        write(&c, &numbered(models.iter().cloned()), &[]);
        // The table remembers what was deleted from it.
        write(&c, &numbered(changed), &[id(models.len() - 1)]);
        let held = learned(&c);
        check(&c, &held, &text, &filters, limit, offset);
        check(&c, &held, &text, &Filters::default(), 1000, 0);
        let used_by = BTreeMap::from([
            ("comfyui".to_owned(), vec![id(0), id(1), id(1), id(7000)]),
            ("other".to_owned(), (0..40).map(id).collect()),
        ]);
        check_facets(&c, &held, &text, &filters, &used_by);
    }
}

/// So many that they are shown by tiers, newest first.
fn many(c: &Connection) {
    let models = (0..1500).map(|n: usize| {
        let name = match n % 11 {
            0 => "alpha".to_owned(),
            1 => format!("alpha beta {n}"),
            2 => format!("alphabet {n}"),
            3 => format!("beta alphabet {n:x}"),
            _ => format!("gamma {n:x}"),
        };
        let kind = if n.is_multiple_of(3) { "llm" } else { "diffusion" };
        let tags = if n.is_multiple_of(2) {
            json!(["alpha", format!("tag {}", n % 130)])
        } else {
            json!(["beta"])
        };
        json!({"official_name": name, "tags": tags, "description": "of alpha and beta", "model_type": kind})
    });
    write(c, &numbered(models), &[]);
    write(c, &[], &(0..1500).step_by(17).map(id).collect::<Vec<_>>());
}

#[test]
fn pages_of_many_matches_are_the_search_tables() {
    let c = open();
    many(&c);
    let held = learned(&c);
    let llm = Filters {
        model_types: vec!["llm".to_owned()],
        ..Filters::default()
    };
    let some = Filters {
        ids: Some((0..1500).step_by(2).map(id).collect()),
        ..Filters::default()
    };
    for text in QUERIES
        .iter()
        .chain(&["alpha beta", "beta alpha", "zzz al", "of", "1"])
    {
        for filters in [&Filters::default(), &llm, &some] {
            for (limit, offset) in [(50, 0), (7, 130), (1000, 90), (3, 100_000)] {
                check(&c, &held, text, filters, limit, offset);
            }
            check_facets(&c, &held, text, filters, &UsedBy::new());
        }
    }
}

#[test]
fn nothing_old_is_shown_when_the_library_changed() {
    let c = open();
    write(&c, &numbered([json!({"official_name": "Harbor"})]), &[]);
    let held = learned(&c);
    let find = |text: &str| {
        held.search(&c, text, &Filters::default(), None, 0, Sort::Relevance)
            .unwrap()
            .total
    };
    assert_eq!((find("harbor"), held.is_behind()), (1, false));
    write(&c, &numbered([json!({"official_name": "Lantern"})]), &[]);
    assert_eq!((find("harbor"), find("lantern"), held.is_behind()), (0, 1, true));
    held.learn(&c, &|| false).unwrap();
    assert_eq!((find("harbor"), find("lantern"), held.is_behind()), (0, 1, false));
}

#[test]
fn reading_ends_when_it_is_told_to_and_small_libraries_are_not_held() {
    let c = open();
    many(&c);
    let read = |least, stop: bool| super::Held::read(&c, least, &|| stop).unwrap().is_some();
    assert!(read(1000, false));
    assert!(!read(1500, false));
    assert!(!read(0, true));
}

#[test]
fn a_reader_that_may_write_nothing_still_cannot_afterwards() {
    let c = open();
    many(&c);
    c.pragma_update(None, "query_only", true).unwrap();
    let snapshot = c.unchecked_transaction().unwrap();
    assert!(super::Held::read(&snapshot, 0, &|| false).unwrap().is_some());
    snapshot.rollback().unwrap();
    assert!(c.execute("DELETE FROM models", []).is_err());
    assert!(c.prepare("SELECT * FROM temp.model_words").is_err());
}
