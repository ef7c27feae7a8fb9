//! The command line: one file per verb. (Minimal on this branch.)

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub mod simulate;
pub mod train;

/// How results are printed on stdout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

#[derive(Parser, Debug)]
#[command(name = "saker", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Write a labelled, seeded world of card traffic as CSV.
    Simulate(simulate::Args),
    /// Train the scoring model on labelled history.
    Train(train::Args),
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Simulate(args) => simulate::run(args),
        Verb::Train(args) => train::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
