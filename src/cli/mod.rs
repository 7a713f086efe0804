//! The command line: one file for each command.

mod check;
mod client;
mod dry_run;
mod printer;
mod purge;
mod serve;
mod status;
mod takeover;

use crate::config::{Config, Loaded, Problem};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use printer::Printer;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExitStatus {
    /// All is well.
    Good,
    /// The thing asked about is bad.
    Bad,
    /// The command was used wrongly.
    Usage,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        ExitCode::from(match status {
            ExitStatus::Good => 0,
            ExitStatus::Bad => 1,
            ExitStatus::Usage => 2,
        })
    }
}

/// A caching reverse proxy for buckets and HTTP origins, with its policy in Lua.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(serve::ServeArgs),
    /// Check the configuration and every policy, and report all problems at once
    Check(check::CheckArgs),
    /// Decide one request without network, and say why
    DryRun(dry_run::DryRunArgs),
    /// Make a running daemon forget what is stored
    Purge(purge::PurgeArgs),
    /// Print what a running daemon has counted
    Stats(status::StatusArgs),
    /// Print the policies of a running daemon, and how they fare
    Policies(status::StatusArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
struct ConfigArg {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines
    Json,
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let printer = Printer::new();
    let status = match cli.command {
        Command::Serve(args) => serve::run(&args, &printer),
        Command::Check(args) => check::run(&args, &printer),
        Command::DryRun(args) => dry_run::run(&args, &printer),
        Command::Purge(args) => purge::run(&args, &printer),
        Command::Stats(args) => status::stats(&args, &printer),
        Command::Policies(args) => status::policies(&args, &printer),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
            printer.out(&String::from_utf8_lossy(&script));
            ExitStatus::Good
        }
    };
    status.into()
}

/// Why a configuration could not be used.
enum Unusable {
    /// There is no such file.
    NoFile(String),
    /// Everything that is wrong with it.
    Problems(Vec<Problem>),
}

fn load(path: &Path) -> Result<Loaded, Unusable> {
    if !path.is_file() {
        return Err(Unusable::NoFile(format!(
            "{}: there is no such configuration file; name one with -c FILE",
            path.display()
        )));
    }
    Config::load(path, &|name| std::env::var(name).ok()).map_err(Unusable::Problems)
}

/// Loads a configuration, or says everything that is wrong with it and how the command ends.
fn load_or_tell(path: &Path, printer: &Printer) -> Result<Loaded, ExitStatus> {
    load(path).map_err(|unusable| match unusable {
        Unusable::NoFile(message) => {
            printer.error(&message);
            ExitStatus::Usage
        }
        Unusable::Problems(problems) => {
            problems.iter().for_each(|problem| printer.error(&problem.to_string()));
            ExitStatus::Bad
        }
    })
}
