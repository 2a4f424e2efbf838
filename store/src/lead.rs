//! One controller for one database: a lock that ends with its connection.

use sqlx::{Connection, PgConnection};

use crate::{Result, Store};

/// The advisory lock's key: "parsimon" in ASCII.
const KEY: i64 = 0x7061_7273_696d_6f6e;

/// Holds the lead until dropped, or until its connection breaks.
#[derive(Debug)]
pub struct Lead {
    connection: PgConnection,
}

impl Store {
    /// Takes the lead among the servers of this database; `None` while another one has it.
    ///
    /// # Errors
    /// [`crate::StoreError::Database`].
    pub async fn lead(&self) -> Result<Option<Lead>> {
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(KEY)
            .fetch_one(&mut connection)
            .await?;
        if taken {
            return Ok(Some(Lead { connection }));
        }
        connection.close().await?;
        Ok(None)
    }
}

impl Lead {
    /// Whether the lead is still held: a broken connection has lost it.
    pub async fn is_held(&mut self) -> bool {
        self.connection.ping().await.is_ok()
    }
}
