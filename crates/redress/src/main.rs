//! `redress`: the command line. Reads arguments, brings the parts together, prints.
//!
//! This is the only crate that names concrete logs, executors and checks. Read [`cli`] for what can be asked,
//! [`run`] for the main job, [`database`] for which log a command opens, [`text`] for how what others wrote is
//! printed safely.

mod archive;
mod bench;
mod cli;
mod database;
mod fsm;
mod logging;
mod migrate;
mod neighbours;
mod operations;
mod outbox;
mod reconcile;
mod run;
mod serve;
mod signals;
mod text;
mod verify;
mod wiring;

use std::process::ExitCode;

use anyhow::Error;
use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a command ended, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub u8);

impl Exit {
    /// All is well, or there was nothing to do.
    pub(crate) const DONE: Self = Self(0);
    /// It was done, and the answer is not the one hoped for.
    pub(crate) const OTHERWISE: Self = Self(1);
    /// Bad usage, bad input, or a log that cannot be opened.
    pub(crate) const REFUSED: Self = Self(2);
    /// Something still waits.
    pub(crate) const WAITS: Self = Self(3);
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refused) => {
            // Help and version come this way too; a reader that went away does not need them.
            let _ = refused.print();
            return ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(2));
        }
    };
    logging::start(arguments.global.verbose);
    match dispatch(arguments) {
        Ok(exit) => ExitCode::from(exit.0),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(Exit::REFUSED.0)
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<Exit, Error> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Run(asked) => block_on(run::run(&global, asked)),
        Command::Operations(asked) => block_on(operations::operations(&global, asked)),
        Command::Verify(asked) => block_on(verify::verify(&global, asked)),
        Command::Serve(asked) => block_on(serve::serve(&global, *asked)),
        Command::Migrate => block_on(migrate::migrate(&global)),
        Command::Reconcile(asked) => block_on(reconcile::reconcile(&global, asked)),
        Command::Outbox(asked) => block_on(outbox::outbox(&global, asked)),
        Command::Archive(asked) => block_on(archive::archive(&global, asked)),
        Command::Fsm(asked) => fsm::fsm(&global, asked),
        Command::Bench(asked) => block_on(bench::bench(&global, asked)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "redress", &mut script);
            text::print_bytes(&script)
        }
        Command::Man { command } => {
            let mut page = Vec::new();
            let program = concat!("redress ", env!("CARGO_PKG_VERSION"));
            clap_mangen::Man::new(named(&command)?).source(program).render(&mut page)?;
            text::print_bytes(&page)
        }
    }
}

/// A command by its words, as the page of its own name.
fn named(words: &[String]) -> Result<clap::Command, Error> {
    let mut command = Arguments::command();
    // Options that every command takes are then part of each.
    command.build();
    let mut name = command.get_name().to_owned();
    for word in words {
        let found = command.get_subcommands().find(|command| command.get_name() == word).cloned();
        command = found.ok_or_else(|| anyhow::anyhow!("there is no command {word:?} in `{name}`"))?;
        name = format!("{name} {word}");
    }
    let whole = command.get_bin_name().unwrap_or(&name).replace(' ', "-");
    Ok(command.display_name(whole))
}

fn block_on(work: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    // Two threads: one for the engine's tasks, one so that a slow terminal does not hold them up.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(work);
    // A read of standard input cannot be cancelled; it must not keep the process.
    runtime.shutdown_background();
    ended
}

/// One line: what was being done, and why it failed, down to the first cause.
pub(crate) fn complain(error: &Error) {
    logging::to_stderr(&format!("redress: {error:#}"));
}

/// Whoever read our output has had enough: no error of ours.
fn is_closed_pipe(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_coherent() {
        Arguments::command().debug_assert();
    }
}
