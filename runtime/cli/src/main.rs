//! `strake`: arguments in, output and an exit code out. The only package that prints or exits, and the one that wires the others together.

mod args;
mod commands;
mod connect;
mod definitions;
mod failure;
mod inputs;
mod interrupt;
mod output;
mod overlay;
mod progress;
mod project;
mod sealed;
mod select;
mod sync;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::output::{Paint, note};

fn main() -> ExitCode {
    // The monitor of a container is this same program: it must see its arguments before anything else starts, and before there is a second thread.
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = strake_container::intercept(&words) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let mut cli = Cli::read(words);
    if matches!(&cli.command, Command::Build(args) if args.debug) || matches!(&cli.command, Command::Bake(args) if args.debug) {
        cli.verbose = cli.verbose.max(2);
    }
    log_to_stderr(&cli);
    let ended = run(cli).and_then(|()| match output::lost() {
        Some(error) => Err(Failure::text(format!("cannot write to the standard output: {error}"))),
        None => Ok(()),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let message = failure.to_string();
            if !message.is_empty() {
                let word = if failure.code() == interrupt::INTERRUPTED { "interrupted:" } else { "error:" };
                note(format!("{} {message}{}", Paint::stderr().red(word), failure::root_hint(&message)));
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Warnings always; more with -v. A server says what it does.
fn log_to_stderr(cli: &Cli) {
    let level = match (cli.verbose, &cli.command) {
        (0, Command::Serve(_)) => "warn",
        // What fails is told by the command itself.
        (0, _) => "off",
        (1, _) => "warn",
        _ => "debug",
    };
    let names = ["api", "apply", "build", "client", "cluster", "container", "network", "node", "registry", "state", "store"];
    let ours = match (cli.verbose, &cli.command) {
        (0, Command::Serve(_)) => "info",
        (0, _) => "warn",
        _ => "debug",
    };
    let own: String = match cli.verbose {
        // This program's own name is the beginning of all of them: it counts where none of them fits.
        0 | 1 => names.iter().map(|name| format!(",strake_{name}={ours}")).chain([format!(",strake::sync={ours}")]).collect(),
        _ => String::new(),
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("STRAKE_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{level}{own}")));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(Paint::stderr().is_on()).with_target(false).init();
}

fn run(cli: Cli) -> Result<(), Failure> {
    // A server ends in its own way: its pods go on.
    if !matches!(&cli.command, Command::Serve(args) if !args.detach) {
        interrupt::listen()?;
    }
    let root = std::path::absolute(&cli.root).unwrap_or(cli.root);
    let root = root.as_path();
    match cli.command {
        Command::Build(args) => commands::build::run(root, &args),
        Command::Bake(args) => commands::bake::run(root, &args),
        Command::Plan(args) => commands::plan::plan(root, &args),
        Command::Check(args) => commands::check::run(root, &args),
        Command::Apply(args) => commands::apply::apply(root, &args),
        Command::Up(args) if args.watch => commands::dev::run(root, &args),
        Command::Up(args) => commands::apply::up(root, &args.apply),
        Command::Ci(args) => commands::ci::run(root, &args),
        Command::Diff(args) => commands::apply::diff(root, &args),
        Command::Down(args) => commands::apply::down(root, &args),
        Command::History(args) => commands::history::history(root, &args),
        Command::Rollback(args) => commands::history::rollback(root, &args),
        Command::Drift(args) => commands::status::drift(root, &args),
        Command::Test(args) => commands::test::test(root, &args),
        Command::Status(args) => commands::status::status(root, &args),
        Command::Sync(args) => commands::sync::run(root, &args),
        Command::SyncWorker => sync::worker::run(root),
        Command::Serve(args) => commands::serve::serve(root, &args),
        Command::Stop => commands::serve::stop(root),
        Command::Kubeconfig(args) => commands::serve::kubeconfig(root, &args),
        Command::Images(args) => commands::images::list(root, &args),
        Command::Image(args) => commands::images::run(root, args.verb),
        Command::Builder(args) => match args.verb {
            args::BuilderVerb::Prune(args) => commands::space::prune(root, &args, commands::space::Scope::Cache),
            args::BuilderVerb::Du(args) => commands::space::usage(root, &args),
        },
        Command::Registry(args) => commands::registry::run(root, args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Get(args) => interrupt::wait(commands::get::run(root, &args)),
        Command::Describe(args) => interrupt::wait(commands::describe::run(root, &args)),
        Command::Logs(args) => interrupt::wait(commands::stream::logs(root, &args)),
        Command::Exec(args) => interrupt::wait(commands::stream::exec(root, &args)),
        Command::PortForward(args) => interrupt::wait(commands::forward::run(root, &args)),
        Command::Delete(args) => interrupt::wait(commands::write::delete(root, &args)),
        Command::Scale(args) => interrupt::wait(commands::write::scale(root, &args)),
        Command::Rollout(args) => interrupt::wait(commands::rollout::run(root, &args)),
    }
}
