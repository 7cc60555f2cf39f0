//! `kiln identity`: identity providers, looked after.

use std::process::ExitCode;

use clap::Subcommand;
use kiln_auth::{
    CouchDb,
    couchdb::{Index, Made},
};

use super::{ConfigArgs, exit, fail};
use crate::{identities, serve::causes};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the indexes in CouchDB that spare it from reading every document for an unknown token
    Indexes {
        /// Show the requests and send none
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(crate) async fn run(verb: Verb) -> ExitCode {
    let Verb::Indexes { dry_run, config } = verb;
    let config = match config.load() {
        Ok(config) => config.identity,
        Err(error) => return fail(exit::USAGE, &error),
    };
    let Some(couchdb) = &config.couchdb else {
        return fail(exit::USAGE, &"there is no CouchDB: set COUCHDB_SERVICE_HOST or identity.couchdb");
    };
    if dry_run {
        for Index { purpose, database, method, path, body } in Index::all() {
            println!("{database}: {purpose}\n  {method} /{database}/{path}\n  {body}");
        }
        return ExitCode::SUCCESS;
    }
    let made = identities::couchdb_config(couchdb).map_err(|error| causes(&error));
    let made = made.and_then(|config| CouchDb::new(&config).map_err(|error| causes(&error)));
    let couchdb = match made {
        Ok(couchdb) => couchdb,
        Err(error) => return fail(exit::USAGE, &error),
    };
    make(&couchdb).await
}

async fn make(couchdb: &CouchDb) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for index in Index::all() {
        let Index { purpose, database, path, .. } = &index;
        match couchdb.make(&index).await {
            Ok(Made::Created) => println!("created  {database}/{path}: {purpose}"),
            Ok(Made::Exists) => println!("exists   {database}/{path}: {purpose}"),
            Ok(Made::Differs) => {
                status = fail(1, &format!("{database}/{path} is there and says something else; it was left alone"));
            }
            Err(error) => return fail(1, &causes(&error)),
        }
    }
    status
}
