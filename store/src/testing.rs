//! A throw-away database for each test, cloned from a migrated template in a real server.
//!
//! Safe where each test is a process of its own: the server is shared, started by whoever comes first and stopped by whoever
//! is last.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{Cluster, LocalError, MIGRATIONS, Store, find_binaries};

/// A migrated, empty database of its own; dropped with this.
#[derive(Debug)]
pub struct TestDb {
    /// The database, opened.
    pub store: Store,
    url: String,
    name: String,
    cluster: Option<Cluster>,
}

impl TestDb {
    /// A new database in the server that all tests share.
    ///
    /// # Panics
    /// If no server can be had, with the sentence that says what to install.
    pub async fn new() -> TestDb {
        let cluster = match shared_cluster().await {
            Ok(cluster) => cluster,
            Err(e) => panic!("tests of the store need a real server: {e}"),
        };
        let name = create(&cluster.url())
            .await
            .expect("a fresh private server creates databases");
        let url = with_database(&cluster.url(), &name);
        let store = Store::open(&url).await.expect("a clone of the template opens");
        TestDb {
            store,
            url,
            name,
            cluster: Some(cluster),
        }
    }

    /// The URL of this database, for a process under test.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let Some(cluster) = self.cluster.take() else {
            return;
        };
        let (name, url) = (std::mem::take(&mut self.name), cluster.url());
        // the test's own runtime may be going down: finish on another
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .expect("a runtime with one thread starts")
                .block_on(async {
                    let dropped = drop_database(&url, &name).await;
                    let stopped = cluster.stop_if_idle().await;
                    (dropped, stopped)
                })
        });
        match cleaner.join() {
            Ok((Ok(()), Ok(_))) => {}
            failed => tracing::warn!("a test database was left behind: {failed:?}"),
        }
    }
}

/// The same for all processes of a user; another server version has another folder.
async fn shared_cluster() -> Result<Cluster, LocalError> {
    let (user, major) = (nix::unistd::Uid::effective(), find_binaries()?.major);
    Cluster::ensure(format!("/tmp/parsimony-tests-{user}-{major}").as_ref()).await
}

fn with_database(url: &str, name: &str) -> String {
    url.replacen("/postgres?", &format!("/{name}?"), 1)
}

/// Clones the template under a name that tells whose it is.
async fn create(url: &str) -> sqlx::Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut connection = PgConnection::connect(url).await?;
    // one at a time: a template being made or cloned must have no other visitor
    sqlx::query("select pg_advisory_lock(1)")
        .execute(&mut connection)
        .await?;
    let template = make_template(&mut connection, url).await?;
    drop_leftovers(&mut connection).await?;
    let name = format!(
        "test_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    run(
        &mut connection,
        format!("create database {name} template {template}"),
    )
    .await?;
    connection.close().await?;
    Ok(name)
}

/// The migrated template, made if this set of migrations has none yet.
async fn make_template(connection: &mut PgConnection, url: &str) -> sqlx::Result<String> {
    let checksums: Vec<u8> = MIGRATIONS.iter().flat_map(|m| m.checksum.to_vec()).collect();
    let template = format!("template_{}", &spaces::fingerprint(&checksums)[..12]);
    let exists: Option<i32> = sqlx::query_scalar("select 1 from pg_database where datname = $1")
        .bind(&template)
        .fetch_optional(&mut *connection)
        .await?;
    if exists.is_some() {
        return Ok(template);
    }
    // a crash of the machine may cost the test server its life, and does not matter; a clone is much faster without
    run(connection, "alter system set fsync = off".into()).await?;
    run(connection, "select pg_reload_conf()".into()).await?;
    run(connection, "drop database if exists unfinished".into()).await?;
    run(connection, "create database unfinished".into()).await?;
    let mut migrating = PgConnection::connect(&with_database(url, "unfinished")).await?;
    MIGRATIONS.run(&mut migrating).await?;
    migrating.close().await?;
    run(
        connection,
        format!("alter database unfinished rename to {template}"),
    )
    .await?;
    Ok(template)
}

/// Databases of tests that were killed.
async fn drop_leftovers(connection: &mut PgConnection) -> sqlx::Result<()> {
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where datname like 'test\\_%'")
            .fetch_all(&mut *connection)
            .await?;
    for name in names {
        let pid = name.split('_').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            run(connection, format!("drop database if exists {name} with (force)")).await?;
        }
    }
    Ok(())
}

async fn drop_database(url: &str, name: &str) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    run(&mut connection, format!("drop database {name} with (force)")).await?;
    connection.close().await
}

/// Runs a statement that takes no parameters; every name in it is our own.
async fn run(connection: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
