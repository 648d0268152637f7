//! Search in the index: any text becomes a safe expression, filters and paging happen in SQL, totals are true.
//!
//! All words must match, each as the beginning of an indexed word. When nothing has them all, `llama3` is also taken for
//! `llama 3`; when that finds nothing either, models with any of them are shown and the result says so. Order, best
//! first: the name is the query; all its words are words of the name; all begin words of the name; all are in name, tags
//! or other short fields; the rest, which needs the description. Up to `NARROW` matches are weighed one by one inside
//! that order. More than that are taken newest first, because weighing all of, say, 30,000 matches (FTS5's bm25 does)
//! takes 30 times longer than finding them.
//!
//! A person may ask for another order ([`Sort`]). Few matches are then sorted by their rows; for many, the order of all
//! models is read once and remembered, 400 KB for 100,000, and a page is taken by walking along it.
//!
//! Filters are words too ([`crate::library::words::facet`]), so that counting stays one pass over the search table. Of a
//! large library the words are held in memory (`library::held`), once somebody has searched it; the search table
//! answers until then, and again from a change of the library on until they are read anew. Both find the same.
//! Nothing here writes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Result};
use serde::Serialize;

use crate::library::facets::{self, FacetCounts, UsedBy};
use crate::library::held::{Asked, Held};
use crate::library::words::{apart, words};
use crate::storage::locked;
use crate::text::cut;

mod filters;
mod hit;
mod look;
mod sort;
mod weight;

pub use filters::Filters;
use hit::hits;
pub use hit::{Hit, one};
use look::{ALL, ANY, Listing, Look, Span};
use sort::Orders;
pub use sort::Sort;

/// Results of a page when nothing else is asked for.
pub const DEFAULT_LIMIT: i64 = 100;
/// Most results of a page.
pub const MAX_LIMIT: i64 = 1000;
/// A search that takes longer is stopped.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// The same in another order than the best first: the first search in it reads that of all models.
pub const SORTED_DEADLINE: Duration = Duration::from_secs(9);

const MAX_OFFSET: i64 = 1 << 31;
const MAX_TEXT: usize = 4096;
const MAX_TERMS: usize = 16;
const MAX_TERM: usize = 64;
/// Of a library with fewer models the search table finds everything in a moment.
const LEAST_HELD: i64 = 5000;
const REMEMBERED: usize = 2000;

/// Whether all words of the query were found, or only any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    /// All.
    All,
    /// No model has all; some have some.
    Any,
}

/// A piece of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Best first.
    pub hits: Vec<Hit>,
    /// All matches.
    pub total: i64,
    /// The full-text expression that was used; `""` without words.
    pub query: String,
    /// Whether all words were found.
    pub matched: Match,
    /// Milliseconds.
    pub took_ms: f64,
}

/// The totals of one revision of the library.
#[derive(Debug, Default)]
struct Counts {
    revision: i64,
    known: Mutex<HashMap<String, i64>>,
}

/// The different words of a query, at most 16, each cut to 64 characters.
#[must_use]
pub fn terms(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in words(cut(text, MAX_TEXT)) {
        let word = cut(&word, MAX_TERM).to_owned();
        if !found.contains(&word) {
            found.push(word);
            if found.len() == MAX_TERMS {
                break;
            }
        }
    }
    found
}

/// The words to ask for, and whether all or any of them must be there.
#[derive(Debug)]
struct Way {
    words: Vec<String>,
    all: bool,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            words: Vec::new(),
            all: true,
        }
    }
}

impl Way {
    fn operator(&self) -> &'static str {
        if self.all { ALL } else { ANY }
    }
}

/// How a query is asked for, in the order to try: the first way that finds something counts. None without words.
fn ways(found: Vec<String>) -> Vec<Way> {
    if found.is_empty() {
        return Vec::new();
    }
    let (mut split, several) = (apart(&found), found.len() > 1);
    split.truncate(MAX_TERMS);
    let other = (split != found).then(|| Way {
        words: split.clone(),
        all: true,
    });
    let any = several.then_some(Way {
        words: split,
        all: false,
    });
    let all = Way {
        words: found,
        all: true,
    };
    [Some(all), other, any].into_iter().flatten().collect()
}

/// What is held of one revision of the library; nothing of a small one.
#[derive(Debug)]
struct Learned {
    revision: i64,
    held: Option<Arc<Held>>,
}

/// What a search knows of the library before it asks the search table.
#[derive(Clone)]
struct Known {
    counts: Arc<Counts>,
    held: Option<Arc<Held>>,
}

/// Stateless but for what it remembers until the library changes: totals, orders, and all words once it was told to
/// [`learn`].
/// Any thread may call it.
///
/// [`learn`]: Self::learn
#[derive(Debug)]
pub struct Searcher {
    counts: Mutex<Arc<Counts>>,
    learned: Mutex<Option<Learned>>,
    orders: Mutex<Orders>,
    behind: AtomicBool,
    least_held: i64,
}

impl Default for Searcher {
    fn default() -> Self {
        Self::holding_from(LEAST_HELD)
    }
}

impl Searcher {
    /// One that holds the words of a library that has at least so many models.
    #[must_use]
    pub fn holding_from(models: i64) -> Self {
        Self {
            counts: Mutex::default(),
            learned: Mutex::default(),
            orders: Mutex::default(),
            behind: AtomicBool::new(false),
            least_held: models,
        }
    }

    /// Whether a question came since the library changed, so that [`Self::learn`] would help the next.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Reads what helps all questions until the library changes; for 100,000 models that takes a second or two.
    ///
    /// `stop` is asked now and then.
    pub fn learn(&self, c: &Connection, stop: &dyn Fn() -> bool) -> Result<()> {
        // What is held of another revision is of no use, and both would be one too many.
        *locked(&self.learned) = None;
        let revision = revision(c)?;
        let held = Held::read(c, self.least_held, stop)?.map(Arc::new);
        *locked(&self.learned) = Some(Learned { revision, held });
        self.behind.store(false, Ordering::Release);
        Ok(())
    }

    /// Finds models. `limit` None means [`DEFAULT_LIMIT`]; it is kept within 1 to [`MAX_LIMIT`], `offset` from 0 on.
    pub fn search(
        &self,
        c: &Connection,
        text: &str,
        filters: &Filters,
        limit: Option<i64>,
        offset: i64,
        sort: Sort,
    ) -> Result<Page> {
        let started = Instant::now();
        let span = Span {
            limit: limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
            offset: offset.clamp(0, MAX_OFFSET),
        };
        let look = Look::new(c, self.known(c)?, filters);
        let mut ways = ways(terms(text)).into_iter();
        let first = ways.next().unwrap_or_default();
        let mut matched = Match::All;
        let mut listing = self.list(&look, &first, span, sort)?;
        for way in ways {
            if listing.total > 0 {
                break;
            }
            matched = if way.all { Match::All } else { Match::Any };
            listing = self.list(&look, &way, span, sort)?;
        }
        let hits = hits(c, &listing.rows)?;
        let took_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        Ok(Page {
            hits,
            total: listing.total,
            query: listing.query,
            matched,
            took_ms,
        })
    }

    fn list(&self, look: &Look<'_>, way: &Way, span: Span, sort: Sort) -> Result<Listing> {
        match (sort, way.words.as_slice()) {
            (Sort::Relevance | Sort::Newest, []) => look.newest(span),
            (Sort::Relevance, words) => look.find(words, way.operator(), span),
            (_, words) => look.sorted(words, way.operator(), span, sort, &self.orders),
        }
    }

    /// Counts what [`Self::search`] finds, by kind.
    pub fn facets(
        &self,
        c: &Connection,
        text: &str,
        filters: &Filters,
        used_by: &UsedBy,
    ) -> Result<FacetCounts> {
        let (known, ways) = (self.known(c)?, ways(terms(text)));
        if let Some(held) = &known.held
            && let Some(counts) = held_facets(held, c, &ways, filters, used_by)?
        {
            return Ok(counts);
        }
        let whole = Look::new(c, known.clone(), filters);
        let everything = Way::default();
        let (last, better) = ways.split_last().unwrap_or((&everything, &[]));
        let mut way = last;
        for one in better {
            if whole.has_any(&one.words, one.operator())? {
                way = one;
                break;
            }
        }
        let (found, operator) = (&way.words, way.operator());
        let (others, of_any_app) = (filters.without_chosen(), filters.of_any_app());
        let others = Look::new(c, known.clone(), &others).condition(found, operator);
        let of_any_app = Look::new(c, known, &of_any_app).condition(found, operator);
        Ok(FacetCounts {
            tags: facets::tags(c, &whole.condition(found, operator))?,
            apps: facets::apps(c, &of_any_app, used_by)?,
            ..facets::properties(c, &others, &filters.chosen())?
        })
    }

    fn known(&self, c: &Connection) -> Result<Known> {
        let revision = revision(c)?;
        let learned = locked(&self.learned);
        let current = learned.as_ref().filter(|learned| learned.revision == revision);
        if current.is_none() {
            self.behind.store(true, Ordering::Release);
        }
        Ok(Known {
            counts: self.counts_of(revision),
            held: current.and_then(|learned| learned.held.clone()),
        })
    }

    fn counts_of(&self, revision: i64) -> Arc<Counts> {
        let mut counts = locked(&self.counts);
        if counts.revision != revision || locked(&counts.known).len() > REMEMBERED {
            *counts = Arc::new(Counts {
                revision,
                known: Mutex::default(),
            });
        }
        Arc::clone(&counts)
    }
}

fn revision(c: &Connection) -> Result<i64> {
    c.prepare_cached("SELECT revision FROM library_state")?
        .query_row([], |row| row.get(0))
}

/// As [`Searcher::facets`]; `None` when what is held cannot tell.
fn held_facets(
    held: &Held,
    c: &Connection,
    ways: &[Way],
    filters: &Filters,
    used_by: &UsedBy,
) -> Result<Option<FacetCounts>> {
    let matching = |filters: &Filters, way: &Way| -> Result<Option<_>> {
        let within = held.within(c, &filters.facets(), filters.ids.as_deref())?;
        let asked = Asked {
            words: &way.words,
            all: way.all,
        };
        Ok(held.matching(asked, within.as_ref()))
    };
    let everything = Way::default();
    let (mut way, further) = ways.split_first().unwrap_or((&everything, &[]));
    let Some(mut whole) = matching(filters, way)? else {
        return Ok(None);
    };
    for next in further {
        if whole.count() > 0 {
            break;
        }
        way = next;
        let Some(found) = matching(filters, way)? else {
            return Ok(None);
        };
        whole = found;
    }
    let (Some(others), Some(of_any_app)) = (
        matching(&filters.without_chosen(), way)?,
        matching(&filters.of_any_app(), way)?,
    ) else {
        return Ok(None);
    };
    Ok(Some(FacetCounts {
        tags: held.tags(&whole),
        apps: held.apps(c, &of_any_app, used_by)?,
        ..held.properties(&others, &filters.chosen())
    }))
}

fn json(rows: &[i64]) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::contracts::schema;
    use crate::library::entry::from_metadata;
    use crate::library::store::{Batch, apply};

    fn library(models: &[(&str, serde_json::Value)]) -> Connection {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(schema::MODELS).unwrap();
        let entries = models
            .iter()
            .map(|(id, metadata)| from_metadata(id, metadata.as_object().unwrap()).unwrap())
            .collect();
        apply(
            &c,
            &Batch {
                entries,
                ..Batch::default()
            },
        )
        .unwrap();
        c
    }

    fn check(c: &Connection, text: &str, filters: &Filters, expected: &[&str]) {
        let page = Searcher::default()
            .search(c, text, filters, None, 0, Sort::Relevance)
            .unwrap();
        assert_eq!(
            page.hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(),
            expected,
            "{text:?}"
        );
        assert_eq!(page.total, i64::try_from(expected.len()).unwrap());
    }

    fn small() -> Connection {
        library(&[
            (
                "llm/llama/A",
                json!({"official_name": "Harbor 7B", "tags": ["chat"], "updated_date": "2030-01-01T00:00Z"}),
            ),
            (
                "llm/llama/B",
                json!({"official_name": "Lantern", "description": "better than harbor", "tags": ["Chat"]}),
            ),
            (
                "diffusion/sdxl/C",
                json!({"official_name": "Harbor", "files": [{"name": "c-Q4_K_M.gguf", "size": 5}]}),
            ),
            (
                "diffusion/sdxl/D",
                json!({"official_name": "Harbored ships", "tags": ["photo"]}),
            ),
        ])
    }

    #[test]
    fn names_come_before_beginnings_and_descriptions() {
        check(
            &small(),
            "harbor",
            &Filters::default(),
            &[
                "diffusion/sdxl/C",
                "llm/llama/A",
                "diffusion/sdxl/D",
                "llm/llama/B",
            ],
        );
        check(&small(), "HARBÓR 7", &Filters::default(), &["llm/llama/A"]);
    }

    #[test]
    fn finds_what_is_spelled_otherwise() {
        let c = library(&[
            ("llm/llama/a", json!({"official_name": "Llama 3.1 8B"})),
            ("llm/qwen/b", json!({"official_name": "Qwen3-8B"})),
            (
                "llm/qwen/c",
                json!({"official_name": "Qwen2.5 VL 3B", "tags": ["phi4"]}),
            ),
            (
                "llm/ru/e",
                json!({"official_name": "Русский Йод Ёлка", "tags": ["большой"]}),
            ),
            ("llm/gr/f", json!({"official_name": "Μοντέλο"})),
            (
                "llm/zh/g",
                json!({"official_name": "通义千问 7B", "tags": ["日本語モデル"]}),
            ),
            ("llm/ja/h", json!({"official_name": "\u{30c6}\u{3099}\u{30e2}"})),
        ]);
        for (text, expected) in [
            ("llama3", "a"),
            ("llama3.1 8b", "a"),
            ("qwen 3", "bc"),
            ("qwen3", "b"),
            ("qwen 2.5", "c"),
            ("phi 4", "c"),
            ("йод", "e"),
            ("елка", "e"),
            ("большой русский", "e"),
            ("ΜΟΝΤΕΛΟ", "f"),
            ("千问", "g"),
            ("モデル", "g"),
            ("デモ", "h"),
            ("zebra3", ""),
        ] {
            // Asked of the search table, and of what is held in memory.
            for searcher in [Searcher::default(), Searcher::holding_from(1)] {
                searcher.learn(&c, &|| false).unwrap();
                let page = searcher
                    .search(&c, text, &Filters::default(), None, 0, Sort::Relevance)
                    .unwrap();
                let mut found: Vec<&str> = page.hits.iter().map(|hit| &hit.id[hit.id.len() - 1..]).collect();
                found.sort_unstable();
                assert_eq!(
                    (found.concat(), page.matched),
                    (expected.to_owned(), Match::All),
                    "{text}"
                );
                let counts = searcher
                    .facets(&c, text, &Filters::default(), &UsedBy::default())
                    .unwrap();
                let counted: u64 = counts
                    .families
                    .values()
                    .filter_map(serde_json::Value::as_u64)
                    .sum();
                assert_eq!(counted, expected.len() as u64, "{text}");
            }
        }
        let page = Searcher::default()
            .search(
                &c,
                "llama3.1 zebra",
                &Filters::default(),
                None,
                0,
                Sort::Relevance,
            )
            .unwrap();
        assert_eq!(
            (page.hits[0].id.as_str(), page.matched),
            ("llm/llama/a", Match::Any)
        );
    }

    #[test]
    fn a_quantisation_that_only_the_content_told_is_found() {
        let named =
            |name: &str, told: &str| json!({"files": [{"name": name, "size": 5}], "quantization": told});
        let c = library(&[
            ("llm/x/a", named("plain.gguf", "q4_k_m")),
            ("llm/x/b", named("plain.gguf", "hello")),
            ("llm/x/c", named("x-Q8_0.gguf", "Q6_K")),
        ]);
        check(&c, "q4_k_m", &Filters::default(), &["llm/x/a"]);
        let asked = Filters {
            quants: vec!["Q6_K".to_owned()],
            ..Filters::default()
        };
        check(&c, "", &asked, &["llm/x/c"]);
    }

    #[test]
    fn any_word_when_no_model_has_all() {
        let c = small();
        let page = Searcher::default()
            .search(
                &c,
                "lantern nowhere",
                &Filters::default(),
                None,
                0,
                Sort::Relevance,
            )
            .unwrap();
        assert_eq!(
            (page.matched, page.total, page.query.as_str()),
            (Match::Any, 1, "\"lantern\"* OR \"nowhere\"*")
        );
    }

    #[test]
    fn filters() {
        let of = |change: fn(&mut Filters)| {
            let mut filters = Filters::default();
            change(&mut filters);
            filters
        };
        let c = small();
        check(
            &c,
            "",
            &of(|f| f.model_types = vec!["diffusion".into()]),
            &["diffusion/sdxl/D", "diffusion/sdxl/C"],
        );
        check(
            &c,
            "",
            &of(|f| f.tags = vec![" CHAT ".into()]),
            &["llm/llama/A", "llm/llama/B"],
        );
        check(
            &c,
            "harbor",
            &of(|f| f.families = vec!["SDXL".into()]),
            &["diffusion/sdxl/C", "diffusion/sdxl/D"],
        );
        check(
            &c,
            "",
            &of(|f| f.quants = vec!["q4_k_m".into()]),
            &["diffusion/sdxl/C"],
        );
        check(&c, "", &of(|f| f.sizes = vec!["0".into()]), &["diffusion/sdxl/C"]);
        check(
            &c,
            "",
            &of(|f| f.formats = vec!["gguf".into(), "onnx".into()]),
            &["diffusion/sdxl/C"],
        );
        check(&c, "", &of(|f| f.tags = vec!["chat".into(), "photo".into()]), &[]);
    }

    fn large() -> Connection {
        let models: Vec<(String, serde_json::Value)> = (0..700)
            .map(|n| {
                let name = match n % 7 {
                    0 => "alpha".to_owned(),
                    1 => format!("alpha beta {n}"),
                    2 => format!("alphabet {n}"),
                    3 => format!("gamma {n}"),
                    _ => format!("delta {n}"),
                };
                let metadata = match n % 7 {
                    3 => json!({"official_name": name, "tags": ["alpha"]}),
                    4..7 => json!({"official_name": name, "description": "of alpha"}),
                    _ => json!({"official_name": name}),
                };
                (format!("llm/x/m{n:03}"), metadata)
            })
            .collect();
        let models: Vec<(&str, serde_json::Value)> =
            models.iter().map(|(id, m)| (id.as_str(), m.clone())).collect();
        library(&models)
    }

    #[test]
    fn pages_of_many_matches_cover_all_of_them_once() {
        let c = large();
        let searcher = Searcher::default();
        let whole = searcher
            .search(&c, "alpha", &Filters::default(), Some(1000), 0, Sort::Relevance)
            .unwrap();
        assert_eq!((whole.hits.len(), whole.total), (700, 700));
        let mut paged = Vec::new();
        for offset in (0..700).step_by(33) {
            paged.extend(
                searcher
                    .search(
                        &c,
                        "alpha",
                        &Filters::default(),
                        Some(33),
                        offset,
                        Sort::Relevance,
                    )
                    .unwrap()
                    .hits,
            );
        }
        let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&paged), ids(&whole.hits));
        assert_eq!(whole.hits[0].official_name, "alpha");
        assert!(whole.hits[699].official_name.starts_with("delta"));
    }

    #[test]
    fn limits_are_kept_within_bounds() {
        let c = large();
        let searcher = Searcher::default();
        for (limit, offset, expected) in [
            (Some(0), -5, 1),
            (Some(-1), 0, 1),
            (Some(i64::MAX), 0, 700),
            (None, i64::MAX, 0),
        ] {
            let page = searcher
                .search(&c, "", &Filters::default(), limit, offset, Sort::Relevance)
                .unwrap();
            assert_eq!(page.hits.len(), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_text_is_a_syntax_error(text in ".{0,80}|[\"'()*:^ ANDORT-]{0,40}") {
            let page = Searcher::default().search(&small(), &text, &Filters::default(), None, 0, Sort::Relevance);
            prop_assert!(page.is_ok(), "{:?}", page);
        }

        #[test]
        fn no_filter_is_a_syntax_error(text in ".{1,40}") {
            let filters = Filters {
                tags: vec![text.clone()], model_types: vec![text.clone()], families: vec![text], ..Filters::default()
            };
            prop_assert!(Searcher::default().search(&small(), "a", &filters, None, 0, Sort::Relevance).is_ok());
        }
    }
}
