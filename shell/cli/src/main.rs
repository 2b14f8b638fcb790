//! The `mainstay` command.

mod args;
mod commands;
mod connect;
mod dev;
mod exit;
mod generate;
mod output;
mod signals;

use args::{Cli, Command};
use clap::Parser as _;
use commands::recorder::RecorderCommand;
use exit::{Failure, Outcome};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap; only real ones go to standard error.
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::note(format_args!(
                "{} {failure}",
                output::paint(output::BAD, "mainstay:")
            ));
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let global = cli.global;
    match cli.command {
        Command::Init(args) => commands::init::run(&global, args),
        Command::Node(args) => commands::node::run(&global, &args),
        Command::Dev(args) => dev::run(&global, args),
        Command::DevProxy { dir } => block_on(dev::proxy::run(dir)),
        Command::Status => block_on(commands::status::run(global)),
        Command::Lock(args) => block_on(commands::lock::run(global, args)),
        Command::Value(command) => block_on(commands::value::run(global, command)),
        Command::Session(args) => block_on(commands::session::run(global, args)),
        Command::Lockspace(command) => block_on(commands::lockspace::run(global, command)),
        Command::Locks(args) => block_on(commands::locks::locks(global, args)),
        Command::Why(args) => block_on(commands::locks::why(global, args)),
        Command::Orphans(args) => block_on(commands::orphans::run(global, args)),
        Command::Masters(_) => block_on(commands::masters::run(global)),
        Command::Graph(args) => block_on(commands::graph::run(global, args)),
        Command::Contention(args) => block_on(commands::contention::run(global, args)),
        Command::Recorder(RecorderCommand::Dump(args)) => {
            block_on(commands::recorder::dump(global, args))
        }
        Command::Recorder(RecorderCommand::Show(args)) => commands::recorder::show(&global, &args),
        Command::Recorder(RecorderCommand::Check(args)) => {
            commands::recorder::run_check(&global, &args)
        }
        Command::Events(args) => block_on(commands::events::run(global, args)),
        Command::Bench(args) => block_on(commands::bench::run(global, args)),
        Command::Check(args) => commands::check::run(&global, &args),
        Command::Convert(args) => commands::convert::run(&global, &args),
        Command::Plan(args) => commands::plan::run(&global, &args),
        Command::Leave(args) => block_on(commands::admin::leave(global, args)),
        Command::Vouch(args) => block_on(commands::admin::vouch(global, args)),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(dir.as_deref()),
        Command::Help { topic } => generate::help(&topic),
    }
}

fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                exit::INTERNAL,
                format!("cannot start the event loop: {error}"),
            )
        })?;
    let outcome = runtime.block_on(work);
    // A measurement that was broken off may still run in a thread; nobody waits for it.
    runtime.shutdown_background();
    outcome
}
