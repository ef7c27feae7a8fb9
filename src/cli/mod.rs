//! The command line: one file per verb, each parsing nothing but its own arguments and returning a [`Failure`] where
//! it did not succeed. What a failure says and which exit code it ends with is decided here, for all verbs alike.
//!
//! No verb calls `std::process::exit` nor prints its own errors: what was opened is closed on the way out.

use std::{fmt, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod accounts;
pub mod demo;
pub mod journal;
pub mod serve;

/// How a verb ends. The numbers are part of the contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// The thing checked was found wrong.
    Wrong = 1,
    /// The call, the input or the configuration is wrong.
    Refused = 2,
    /// The engine stopped itself to protect data.
    Protected = 3,
}

/// Why a verb did not succeed: what went wrong, where, and what to do about it, in words for the operator.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    /// The thing checked was found wrong: exit code 1.
    pub fn wrong(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Wrong, message: message.into() }
    }

    /// The call, the input or the configuration is wrong: exit code 2.
    pub fn refused(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Refused, message: message.into() }
    }

    /// The engine stopped itself to protect data: exit code 3.
    pub fn protected(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Protected, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Whatever is not said to be something else is about the input: exit code 2.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::refused(format!("{error:#}"))
    }
}

/// How results are printed on stdout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

#[derive(Parser, Debug)]
#[command(
    name = "saker",
    version,
    about = "A card issuer's real-time authorisation and fraud-scoring engine",
    after_help = "Exit codes: 0 done · 1 the thing checked was found wrong · 2 the call, the input or the \
                  configuration is wrong · 3 stopped itself to protect data",
    propagate_version = true
)]
struct Cli {
    /// How results are printed.
    #[arg(long, value_enum, default_value = "text", global = true)]
    format: Format,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run the engine: gRPC for the switch, HTTP for metrics and health.
    Serve(serve::ServeArgs),
    /// Start an engine on embedded defaults, send it simulated card traffic and show what it decides.
    Demo(demo::DemoArgs),
    /// Accounts and cards of a running engine.
    Accounts(AccountsArgs),
    /// The decision log of a data directory.
    Journal(JournalArgs),
}

#[derive(Args, Debug)]
struct AccountsArgs {
    #[command(subcommand)]
    verb: AccountsVerb,
}

#[derive(Subcommand, Debug)]
enum AccountsVerb {
    /// Load accounts and cards from a CSV file; the same file again changes nothing.
    Import(accounts::ImportArgs),
}

#[derive(Args, Debug)]
struct JournalArgs {
    #[command(subcommand)]
    verb: JournalVerb,
}

#[derive(Subcommand, Debug)]
enum JournalVerb {
    /// Check the chain from first to last record, and that deciding again gives the same answers.
    Verify {
        /// A data directory, in use or not; one in use is checked up to its durable position.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Runs what the command line asks for. Usage errors are clap's: its text, exit code 2.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let format = cli.format;
    match cli.verb {
        Verb::Serve(args) => serve::run(args),
        Verb::Demo(args) => demo::run(args, format),
        Verb::Accounts(AccountsArgs { verb: AccountsVerb::Import(args) }) => accounts::import(args, format),
        Verb::Journal(JournalArgs { verb: JournalVerb::Verify { directory } }) => {
            journal::verify(&directory, format)
        }
    }
}
