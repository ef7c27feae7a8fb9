//! `saker load`: card traffic against a running engine, and what it answered, how fast and at what cost.
//!
//! With a rate the load is open-loop: requests leave on schedule whether or not answers came, and latency counts
//! from the intended send time, so a stalled server cannot hide behind a waiting client. `--rate max` closes the
//! loop. Deliberately absent: any knowledge of the engine beyond its protobuf, and retries, which would blur both
//! the latencies and the error classes.

mod accounts;
mod calls;
mod drive;
mod pace;
mod procfs;
mod tally;
mod traffic;

pub use accounts::open_accounts;
pub use drive::{Call, Load, Pace, drive};
pub use procfs::{CpuTime, listener_pid};
pub use tally::{Measured, Percentiles};

use std::{net::ToSocketAddrs, process::ExitCode, time::Duration};

use anyhow::{Context, bail};

use super::progress::spinner;

/// Requests per second, or as many as the loop can close.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rate {
    PerSecond(f64),
    Max,
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "max" {
            return Ok(Rate::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate <= 10_000_000.0 => Ok(Rate::PerSecond(rate)),
            _ => Err("a rate is `max` or a number of requests per second above 0".to_owned()),
        }
    }
}

/// How the result is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Sends card traffic to a running engine and measures the answers.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The engine's gRPC address, host:port.
    #[arg(long, value_name = "ADDR")]
    pub to: String,
    /// Requests per second on a fixed schedule, or `max` to send as soon as an answer frees a place.
    #[arg(long, value_name = "N|max")]
    pub rate: Rate,
    /// Seconds that are measured.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Duration,
    /// Seconds of traffic before the measurement starts.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub warm_up: Duration,
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub connections: u32,
    /// Requests in flight over all connections with `--rate max` [default: 64 unary, 256 stream, 512 batch].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: Option<u32>,
    #[arg(long, value_enum, default_value_t = Call::Unary)]
    pub call: Call,
    /// Requests in one message of `--call batch`.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub batch: u32,
    /// Accounts the traffic is spread over; opened first where they are missing, and left in the engine. Few accounts
    /// at a high rate measure velocity declines.
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub accounts: u32,
    /// The server's process, for its CPU time; found through the port where it is on this machine.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Runs the verb and prints the result on stdout. Exit code 1 where not one request was answered with a decision.
///
/// # Errors
/// Where the address cannot be reached or the accounts cannot be opened; nothing was measured then.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let address = args
        .to
        .to_socket_addrs()
        .with_context(|| format!("--to {}: not an address; host:port is expected", args.to))?
        .next();
    let Some(address) = address else {
        bail!("--to {}: the name has no address", args.to);
    };
    let load = Load {
        to: address,
        call: args.call,
        pace: match args.rate {
            Rate::PerSecond(per_second) => Pace::Open { per_second },
            Rate::Max => {
                Pace::Closed { in_flight: args.in_flight.unwrap_or_else(|| args.call.in_flight_default()) }
            }
        },
        warm_up: args.warm_up,
        duration: args.duration,
        connections: args.connections,
        batch: args.batch,
        accounts: args.accounts,
        server_pid: args.server_pid.or_else(|| listener_pid(address)),
    };

    let progress = spinner("{msg}").with_message(format!("opening {} accounts", load.accounts));
    if !open_accounts(load.to, load.accounts)? {
        eprintln!("{address} has no saker.v1.Accounts service: the load goes on without opening accounts");
    }
    progress.set_message(format!(
        "{} for {:.1} s after {:.1} s of warm-up",
        load.describe(),
        load.duration.as_secs_f64(),
        load.warm_up.as_secs_f64()
    ));
    let measured = drive(&load)?;
    progress.finish_and_clear();

    match args.format {
        Format::Text => print!("{measured}"),
        Format::Json => println!("{}", serde_json::to_string(&measured)?),
    }
    Ok(if measured.answered == 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0 to 86400 is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        use clap::Parser as _;
        Command::try_parse_from(std::iter::once("load").chain(line.split(' '))).map(|command| command.args)
    }

    #[test]
    fn a_rate_is_a_number_above_zero_or_max() {
        let line = |rate: &str| format!("--to 127.0.0.1:1 --duration 1 --rate {rate}");
        assert_eq!(parse(&line("max")).unwrap().rate, Rate::Max);
        assert_eq!(parse(&line("2500")).unwrap().rate, Rate::PerSecond(2500.0));
        for rate in ["0", "inf", "NaN", "fast", "1e99"] {
            assert!(parse(&line(rate)).is_err(), "{rate}");
        }
    }

    #[test]
    fn a_closed_port_is_an_error_that_names_the_address() {
        // A port that was free a moment ago, and on which nobody listens.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let args = parse(&format!("--to {address} --duration 1 --rate max --accounts 1")).unwrap();
        let error = format!("{:#}", run(args).unwrap_err());
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
