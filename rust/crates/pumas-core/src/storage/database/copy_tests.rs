use std::cell::Cell;
use std::fs;

use super::copy::copy_path;
use super::*;

const SCHEMA: &str = "CREATE TABLE t (n INTEGER, filling BLOB);\nPRAGMA user_version = 2;\n";
const RENEWAL: &str = "INSERT INTO t VALUES (-1, NULL)";

fn database(path: &Path) -> Database {
    let content = Content::Disposable {
        renewal: Some(RENEWAL),
    };
    let schema = Schema::new(SCHEMA).unwrap();
    let nobody: OnQuarantine = Box::new(|_, _| ());
    Database::new(path.to_owned(), schema, content, Synchronous::Normal, nobody)
}

/// Each row takes a megabyte.
fn fill(database: &Database, numbers: std::ops::Range<i64>) {
    let insert = |c: &Connection| {
        for n in numbers.clone() {
            c.execute("INSERT INTO t VALUES (?, randomblob(1048576))", [n])?;
        }
        Ok(())
    };
    database.write_sync(insert).unwrap();
}

fn numbers(database: &Database) -> Result<Vec<i64>> {
    database.read_sync(None, |c| {
        let mut statement = c.prepare("SELECT n FROM t ORDER BY n")?;
        statement.query_map([], |row| row.get(0))?.collect()
    })
}

fn keep(database: &Database) -> bool {
    database.keep_copy_sync(&|| false).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A closed database of six rows with a copy of five.
fn copied() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let database = database(&path);
    fill(&database, 0..5);
    assert!(keep(&database));
    fill(&database, 5..6);
    database.close_sync();
    assert_eq!(names(folder.path()), ["x.db", "x.db.bak"]);
    (folder, path)
}

#[test]
fn it_takes_the_place_of_a_damaged_file_once() {
    for damage in [&b"no database, whatever its name says"[..], b""] {
        let (folder, path) = copied();
        fs::write(&path, damage).unwrap();
        let opened = database(&path);
        assert_eq!(numbers(&opened).unwrap(), [-1, 0, 1, 2, 3, 4]);
        opened.close_sync();
        assert!(!copy_path(&path).exists());
        assert_eq!(numbers(&database(&path)).unwrap(), [-1, 0, 1, 2, 3, 4]);
        let aside: Vec<_> = names(folder.path())
            .into_iter()
            .filter(|name| name.contains("damaged"))
            .collect();
        assert_eq!(aside.len(), 1);
        assert_eq!(fs::read(folder.path().join(&aside[0])).unwrap(), damage);
    }
}

#[test]
fn a_damaged_copy_is_put_aside_too() {
    let (folder, path) = copied();
    let copy = copy_path(&path);
    let mut content = fs::read(&copy).unwrap();
    content[4096..].fill(7);
    fs::write(&copy, content).unwrap();
    fs::write(&path, "text").unwrap();
    let opened = database(&path);
    // Damage inside is met by the first query.
    let found = numbers(&opened).or_else(|_| numbers(&opened)).unwrap();
    assert!(found.is_empty());
    let aside = names(folder.path());
    assert_eq!(aside.iter().filter(|name| name.contains("damaged")).count(), 2);
}

#[test]
fn a_copy_of_another_schema_goes_and_a_missing_file_is_begun_anew() {
    let (_folder, path) = copied();
    let copy = copy_path(&path);
    fs::remove_file(&path).unwrap();
    assert!(numbers(&database(&path)).unwrap().is_empty());
    let older = Connection::open(&copy).unwrap();
    older.pragma_update(None, "user_version", 1).unwrap();
    drop(older);
    fs::write(&path, "text").unwrap();
    assert!(numbers(&database(&path)).unwrap().is_empty());
    assert!(!copy.exists());
}

#[test]
fn it_is_made_when_there_is_need() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let database = database(&path);
    fill(&database, 0..2);
    assert!(!keep(&database), "a small database has none");
    fill(&database, 2..20);
    assert!(keep(&database));
    fill(&database, 20..21);
    assert!(!keep(&database), "it has hardly grown");
    fill(&database, 21..25);
    assert!(keep(&database));
    fs::remove_file(copy_path(&path)).unwrap();
    fs::create_dir(copy_path(&path)).unwrap();
    assert!(!keep(&database), "what is no file stays");
}

#[test]
fn one_that_is_stopped_leaves_the_older_one_and_nothing_else() {
    let (folder, path) = copied();
    let before = fs::metadata(copy_path(&path)).unwrap().len();
    let database = database(&path);
    fill(&database, 6..20);
    let asked = Cell::new(0);
    let after_some = || asked.replace(asked.get() + 1) == 2;
    assert!(!database.keep_copy_sync(&after_some).unwrap());
    assert_eq!(asked.get(), 3);
    assert_eq!(fs::metadata(copy_path(&path)).unwrap().len(), before);
    database.close_sync();
    assert_eq!(names(folder.path()), ["x.db", "x.db.bak"]);
}
