//! Stores that live in the process of whoever uses them: one increment is one row behind a number that rises.

use std::error::Error;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Durability, TableDefinition};
use rusqlite::Connection;

pub type Done = Result<(), Box<dyn Error>>;

/// A store that returns from [`Store::put`] when all of it is durable.
pub trait Store {
    /// Puts so many increments in one transaction.
    fn put(&mut self, count: u64) -> Done;
}

/// What there is, by name.
pub const NAMES: [&str; 3] = ["sqlite", "redb", "fjall"];

/// Opens a new one in `dir`.
pub fn open(name: &str, dir: &Path) -> Result<Box<dyn Store>, Box<dyn Error>> {
    Ok(match name {
        "sqlite" => Box::new(Sqlite::open(dir)?),
        "redb" => Box::new(Redb::open(dir)?),
        "fjall" => Box::new(Fjall::open(dir)?),
        other => return Err(format!("no store {other}; there are {}", NAMES.join(", ")).into()),
    })
}

/// A row in each: the dimension, and how much of it.
const DIMENSION: &str = "requests";
const QUANTITY: u32 = 1;

struct Sqlite(Connection);

impl Sqlite {
    fn open(dir: &Path) -> Result<Sqlite, Box<dyn Error>> {
        let connection = Connection::open(dir.join("sqlite.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        if (mode.as_str(), synchronous) != ("wal", 2) {
            return Err(format!("SQLite is in mode {mode} with synchronous = {synchronous}").into());
        }
        connection.execute(
            "CREATE TABLE increments (seq INTEGER PRIMARY KEY, dimension TEXT NOT NULL, quantity INTEGER NOT NULL)",
            [],
        )?;
        Ok(Sqlite(connection))
    }
}

impl Store for Sqlite {
    fn put(&mut self, count: u64) -> Done {
        let transaction = self.0.transaction()?;
        let mut insert = transaction.prepare_cached("INSERT INTO increments (dimension, quantity) VALUES (?1, ?2)")?;
        for _ in 0..count {
            insert.execute((DIMENSION, QUANTITY))?;
        }
        drop(insert);
        Ok(transaction.commit()?)
    }
}

const INCREMENTS: TableDefinition<'_, u64, (&str, u32)> = TableDefinition::new("increments");

struct Redb {
    database: redb::Database,
    next: u64,
}

impl Redb {
    fn open(dir: &Path) -> Result<Redb, Box<dyn Error>> {
        Ok(Redb { database: redb::Database::create(dir.join("redb"))?, next: 0 })
    }
}

impl Store for Redb {
    fn put(&mut self, count: u64) -> Done {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut table = transaction.open_table(INCREMENTS)?;
        for seq in self.next..self.next + count {
            table.insert(seq, (DIMENSION, QUANTITY))?;
        }
        drop(table);
        self.next += count;
        Ok(transaction.commit()?)
    }
}

struct Fjall {
    database: Database,
    increments: Keyspace,
    next: u64,
}

impl Fjall {
    fn open(dir: &Path) -> Result<Fjall, Box<dyn Error>> {
        let database = Database::builder(dir.join("fjall")).open()?;
        let increments = database.keyspace("increments", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, increments, next: 0 })
    }
}

impl Store for Fjall {
    fn put(&mut self, count: u64) -> Done {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for seq in self.next..self.next + count {
            let row = [DIMENSION.as_bytes(), &QUANTITY.to_le_bytes()].concat();
            batch.insert(&self.increments, seq.to_be_bytes(), row);
        }
        self.next += count;
        Ok(batch.commit()?)
    }
}
