use std::fs;
use std::sync::Mutex;

use super::*;

const SCHEMA: &str = "CREATE TABLE t (n INTEGER);\nPRAGMA user_version = 2;\n";

type Prepare = Box<dyn Fn(&Path)>;

struct Place {
    folder: tempfile::TempDir,
    told: Arc<Mutex<Vec<String>>>,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            told: Arc::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.db")
    }

    fn database(&self, content: Content) -> Database {
        let told = Arc::clone(&self.told);
        let schema = Schema::new(SCHEMA).unwrap();
        let on_quarantine: OnQuarantine = Box::new(move |_, reason| locked(&told).push(reason.to_owned()));
        Database::new(self.path(), schema, content, Synchronous::Normal, on_quarantine)
    }

    fn told(&self) -> Vec<String> {
        locked(&self.told).clone()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

fn insert(database: &Database, n: i64) {
    database
        .write_sync(|c| c.execute("INSERT INTO t VALUES (?)", [n]).map(|_| ()))
        .unwrap();
}

fn sum(database: &Database) -> i64 {
    database
        .read_sync(None, |c| {
            c.query_row("SELECT CAST(total(n) AS INTEGER) FROM t", [], |row| row.get(0))
        })
        .unwrap()
}

#[test]
fn what_was_written_is_read_also_after_closing() {
    let place = Place::new();
    let database = place.database(Content::Disposable { renewal: None });
    insert(&database, 1);
    assert_eq!(sum(&database), 1);
    database.close_sync();
    insert(&database, 2);
    assert_eq!(sum(&database), 3);
    assert_eq!(sum(&place.database(Content::Disposable { renewal: None })), 3);
}

fn bytes(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

fn write_bytes(database: &Database, count: i64) {
    let sql = "INSERT INTO t VALUES (zeroblob(?))";
    database
        .write_sync(|c| c.execute(sql, [count]).map(|_| ()))
        .unwrap();
}

#[test]
fn a_long_journal_is_given_back_once_no_reader_needs_it() {
    let place = Place::new();
    let database = place.database(Content::Disposable { renewal: None });
    let journal = place.folder.path().join("x.db-wal");
    insert(&database, 1);
    database.settle_sync();
    assert!(bytes(&journal) > 0, "a short one is kept, to be written again");
    write_bytes(&database, 20 << 20);
    assert!(bytes(&journal) > 20 << 20);

    let begun = Instant::now();
    let reading = database.read_sync(None, |c| {
        let seen = c.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?;
        insert(&database, 2);
        database.settle_sync();
        Ok((seen, bytes(&journal)))
    });
    let (seen, length) = reading.unwrap();
    assert_eq!(seen, 2);
    assert!(length > 20 << 20, "it is being read");
    assert!(begun.elapsed() < BUSY_TIMEOUT / 3, "and waits for nobody");

    database.settle_sync();
    assert_eq!(bytes(&journal), 0);
    assert_eq!(sum(&database), 3);
}

#[test]
fn a_checkpoint_beside_the_writer_copies_what_was_written() {
    let place = Place::new();
    let database = place.database(Content::Disposable { renewal: None });
    database.checkpoint_sync();
    assert!(place.names().is_empty(), "it makes no file");
    write_bytes(&database, 1 << 20);
    let short = bytes(&place.path());
    database
        .write_sync(|c| {
            c.execute("INSERT INTO t VALUES (3)", [])?;
            database.checkpoint_sync();
            Ok(())
        })
        .unwrap();
    assert!(short < 1 << 20 && bytes(&place.path()) > 1 << 20);
    assert_eq!(sum(&database), 3);
}

#[test]
fn a_failed_write_changes_nothing() {
    let place = Place::new();
    let database = place.database(Content::Disposable { renewal: None });
    let failed = database.write_sync(|c| {
        c.execute("INSERT INTO t VALUES (1)", [])?;
        c.execute("no SQL", [])
    });
    assert!(failed.is_err());
    assert_eq!(sum(&database), 0);
}

#[test]
fn damaged_foreign_and_older_files_are_put_aside() {
    let foreign = "CREATE TABLE other (x); PRAGMA user_version = 2;";
    let older = "CREATE TABLE t (n INTEGER); PRAGMA user_version = 1;";
    let make =
        |sql: &'static str| move |path: &Path| Connection::open(path).unwrap().execute_batch(sql).unwrap();
    let cases: [(&str, Prepare); 5] = [
        (
            "damaged",
            Box::new(|path| fs::write(path, "no database at all, not even nearly".repeat(99)).unwrap()),
        ),
        ("damaged", Box::new(|path| fs::create_dir(path).unwrap())),
        ("foreign", Box::new(make(foreign))),
        ("older", Box::new(make(older))),
        ("damaged", Box::new(|path| fs::write(path, "").unwrap())),
    ];
    for (label, prepare) in cases {
        let place = Place::new();
        prepare(&place.path());
        let database = place.database(Content::Disposable { renewal: None });
        insert(&database, 4);
        assert_eq!(sum(&database), 4, "{label}");
        let kept = place
            .names()
            .iter()
            .any(|name| name.contains(&format!(".{label}-")));
        assert_eq!(
            (kept, place.told().len()),
            (!label.is_empty(), usize::from(!label.is_empty())),
            "{label}"
        );
    }
}

#[test]
fn damage_met_in_use_puts_the_file_aside() {
    let place = Place::new();
    let database = place.database(Content::Disposable { renewal: None });
    insert(&database, 1);
    let met = database.read_sync(None, |_| -> rusqlite::Result<()> {
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            None,
        ))
    });
    assert!(matches!(met, Err(Error::DiskError(_))));
    assert_eq!((sum(&database), place.told().len()), (0, 1));
}

#[test]
fn an_older_schema_is_migrated_where_rows_matter() {
    let place = Place::new();
    Connection::open(place.path())
        .unwrap()
        .execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (5); PRAGMA user_version = 1;")
        .unwrap();
    let migrate = |c: &Connection, from: i64| c.execute("UPDATE t SET n = n + ?", [from]).map(|_| ());
    let database = place.database(Content::Migrated(migrate));
    assert_eq!(sum(&database), 6);
    assert!(place.told().is_empty());
}

#[test]
fn a_newer_file_is_left_as_it_is() {
    let place = Place::new();
    Connection::open(place.path())
        .unwrap()
        .execute_batch("PRAGMA user_version = 3; CREATE TABLE x (y);")
        .unwrap();
    let before = fs::read(place.path()).unwrap();
    let refused = place.database(Content::Disposable { renewal: None }).open_sync();
    assert!(matches!(refused, Err(Error::NewerSchema(_))));
    assert_eq!(fs::read(place.path()).unwrap(), before);
    assert_eq!(place.names().len(), 1);
}

#[test]
fn a_query_that_takes_too_long_is_stopped() {
    let place = Place::new();
    let database = place.database(Content::Disposable { renewal: None });
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let stopped = database.read_sync(Some(Duration::from_millis(50)), |c| {
        c.query_row(endless, [], |row| row.get::<_, i64>(0))
    });
    assert!(matches!(stopped, Err(Error::TimedOut(_))));
    assert_eq!(sum(&database), 0);
}

#[test]
fn readers_go_on_during_a_write_and_after_a_panic() {
    let place = Place::new();
    let database = place.database(Content::Disposable { renewal: None });
    insert(&database, 1);
    let other = database.clone();
    database
        .write_sync(|c| {
            c.execute("INSERT INTO t VALUES (2)", [])?;
            assert_eq!(
                std::thread::scope(|scope| scope.spawn(|| sum(&other)).join().unwrap()),
                1
            );
            Ok(())
        })
        .unwrap();
    let panicked = std::thread::scope(|scope| {
        scope
            .spawn(|| database.write_sync(|_| -> rusqlite::Result<()> { panic!("on purpose") }))
            .join()
            .is_err()
    });
    assert!(panicked);
    for _ in 0..=READERS {
        let reading = || database.read_sync(None, |_| -> rusqlite::Result<()> { panic!("on purpose") });
        assert!(std::thread::scope(|scope| scope.spawn(reading).join().is_err()));
    }
    insert(&database, 3);
    assert_eq!(sum(&database), 6);
}

#[tokio::test]
async fn calls_of_the_runtime() {
    let place = Place::new();
    let database = place.database(Content::Disposable { renewal: None });
    database
        .write(|c| c.execute("INSERT INTO t VALUES (7)", []).map(|_| ()))
        .await
        .unwrap();
    let n: i64 = database
        .read(None, |c| c.query_row("SELECT n FROM t", [], |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(n, 7);
}
