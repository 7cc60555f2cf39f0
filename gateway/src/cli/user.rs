//! `kiln user`: the file of users for a laptop.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use kiln_auth::{NewUser, UserName, UsersFileError, add_user};
use secrecy::ExposeSecret as _;

use super::{exit, fail};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add a user and print the token, which is stored nowhere else
    Add {
        /// The user's name: also the repository that images go to
        name: String,
        /// The file of users; made if there is none
        #[arg(long, env = "KILN_IDENTITY__USERS_FILE")]
        file: PathBuf,
        /// Give an existing user a new token; the old one stops working
        #[arg(long)]
        rotate: bool,
    },
}

pub(crate) fn run(verb: &Verb) -> ExitCode {
    let Verb::Add { name, file, rotate } = verb;
    let name = match UserName::parse(name) {
        Ok(name) => name,
        Err(error) => return fail(exit::USAGE, &error),
    };
    match add_user(file, NewUser { rotate: *rotate, ..NewUser::named(name) }) {
        Ok(token) => {
            println!("{}:{}", token.uuid(), token.key().expose_secret());
            ExitCode::SUCCESS
        }
        Err(UsersFileError::Exists(name)) => fail(
            1,
            &format!("user {name} is there already; --rotate gives them a new token, and the old one stops working"),
        ),
        Err(error) => fail(1, &error),
    }
}
