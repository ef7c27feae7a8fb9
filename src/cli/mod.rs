//! The command line: one file per verb, each with its own arguments and one `run` that returns an exit code, or an
//! error for whatever kept it from its work. What an error looks like and which code it ends with is decided here.
//!
//! No verb calls `std::process::exit` nor prints its own errors, so that what was opened is closed on the way out.

use std::{
    fmt,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{engine::SystemClock, types::time::Clock as _};

pub mod accounts;
pub mod backtest;
pub mod demo;
pub mod journal;
pub mod lists;
pub mod load;
pub mod model;
mod output;
mod past;
mod progress;
pub mod rules;
mod scores;
pub mod serve;
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

/// The exit codes of the contract other than success.
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

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error that ends with another code than [`Exit::Refused`], which is what all others end with.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    /// The thing checked was found wrong: exit code 1.
    pub fn wrong(message: impl Into<String>) -> anyhow::Error {
        Failure { exit: Exit::Wrong, message: message.into() }.into()
    }

    /// The engine stopped itself to protect data: exit code 3.
    pub fn protected(message: impl Into<String>) -> anyhow::Error {
        Failure { exit: Exit::Protected, message: message.into() }.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[derive(Parser, Debug)]
#[command(
    name = "saker",
    version,
    about = "A card issuer's real-time authorisation and fraud-scoring engine",
    after_help = "Exit codes: 0 done · 1 the thing checked was found wrong · 2 the call, the input or the \
                  configuration is wrong · 3 stopped itself to protect data"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run the engine: gRPC for the switch, HTTP for metrics and health.
    Serve(serve::Args),
    /// Start an engine on embedded defaults, send it simulated card traffic and show what it decides.
    Demo(demo::Args),
    /// Write a labelled, seeded world of card traffic as CSV.
    Simulate(simulate::Args),
    /// Accounts and cards of a running engine.
    #[command(subcommand)]
    Accounts(AccountsVerb),
    /// Block, allow and watch lists of a running engine.
    #[command(subcommand)]
    Lists(ListsVerb),
    /// Rules files.
    #[command(subcommand)]
    Rules(RulesVerb),
    /// Decide history again, by the code that serves, and say what that was worth.
    Backtest(backtest::Args),
    /// Train the scoring model on labelled history.
    Train(train::Args),
    /// Scoring models: what one is, why a row scores as it does, and those of other libraries.
    #[command(subcommand)]
    Model(ModelVerb),
    /// Send card traffic to a running engine and measure the answers.
    Load(load::Args),
    /// The decision log of a data directory.
    #[command(subcommand)]
    Journal(JournalVerb),
}

#[derive(Subcommand, Debug)]
enum ModelVerb {
    /// Say what a model is, reads and was worth.
    Show(model::ShowArgs),
    /// Say which features a transaction's margin comes from: exact Shapley values (TreeSHAP).
    Explain(model::explain::ExplainArgs),
    /// Turn XGBoost's JSON or LightGBM's text into a model file of the engine.
    Import(model::ImportArgs),
}

#[derive(Subcommand, Debug)]
enum AccountsVerb {
    /// Load accounts and cards from a CSV file; the same file again changes nothing, and a posted balance counts where
    /// its account is opened.
    Import(accounts::ImportArgs),
}

#[derive(Subcommand, Debug)]
enum ListsVerb {
    /// Write every value that is on a list to a CSV file.
    Export(lists::ExportArgs),
    /// Add the values of a CSV file to a list; the same file again changes nothing.
    Import(lists::ImportArgs),
}

#[derive(Subcommand, Debug)]
enum RulesVerb {
    /// Check a rules file: names, types, cost.
    Check(RulesArgs),
    /// Run the test cases written in a rules file.
    Test(RulesArgs),
    /// Say in words what each rule does, reads and costs.
    Explain(RulesArgs),
    /// List the names that a condition may use, with type, unit and meaning.
    Names(NamesArgs),
}

#[derive(clap::Args, Debug)]
struct RulesArgs {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(clap::Args, Debug)]
struct NamesArgs {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Subcommand, Debug)]
enum JournalVerb {
    /// Check the chain from first to last record, and that deciding again gives the same answers.
    Verify(journal::VerifyArgs),
}

/// Prints a line on stdout. Whoever closed the pipe wants no more lines, and what is being done goes on.
fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Runs what the command line asks for. Usage errors are clap's: its text, exit code 2.
pub fn run() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Serve(args) => serve::run(args),
        Verb::Demo(args) => demo::run(args),
        Verb::Simulate(args) => simulate::run(args),
        Verb::Accounts(AccountsVerb::Import(args)) => accounts::import(args),
        Verb::Lists(ListsVerb::Export(args)) => lists::export(args),
        Verb::Lists(ListsVerb::Import(args)) => lists::import(args),
        Verb::Rules(RulesVerb::Check(args)) => {
            Ok(rules::check(&args.file, SystemClock.now(), args.format == Format::Json))
        }
        Verb::Rules(RulesVerb::Test(args)) => Ok(rules::test(&args.file, args.format == Format::Json)),
        Verb::Rules(RulesVerb::Names(args)) => Ok(rules::names(args.format == Format::Json)),
        Verb::Rules(RulesVerb::Explain(args)) => Ok(rules::explain(&args.file, args.format == Format::Json)),
        Verb::Backtest(args) => backtest::run(args),
        Verb::Train(args) => train::run(args),
        Verb::Model(ModelVerb::Show(args)) => model::show(args),
        Verb::Model(ModelVerb::Explain(args)) => model::explain::explain(args),
        Verb::Model(ModelVerb::Import(args)) => model::import(args),
        Verb::Load(args) => load::run(args),
        Verb::Journal(JournalVerb::Verify(args)) => journal::verify(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        let exit = error.downcast_ref::<Failure>().map_or(Exit::Refused, |failure| failure.exit);
        exit.into()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_argument_contradicts_another() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_keeps_its_exit_code_through_added_context() {
        let error = Failure::protected("the disk").context("while closing");
        assert_eq!(error.downcast_ref::<Failure>().unwrap().exit, Exit::Protected);
    }
}
