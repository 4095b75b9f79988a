//! `--on-error shell` and `--debug-step`: this terminal becomes that of a shell in a step.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;
use strake_build::{Shell, Visit};
use strake_container::ExecProcess;
use strake_plan::{BuildPlan, StepIndex};
use strake_stages::debug::Place;

use crate::args::Build;
use crate::failure::{Failure, chain};
use crate::output::{Paint, note, raw};
use crate::terminal::RawMode;

/// What the arguments ask for; without a terminal, a shell after an error is only spoken of.
pub fn wanted(args: &Build) -> Result<Option<Shell>, Failure> {
    if args.on_error.is_none() && args.debug_step.is_none() {
        return Ok(None);
    }
    let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    match (has_terminal, &args.debug_step) {
        (false, Some(_)) => Err(Failure::text("--debug-step opens a shell: it needs a terminal on stdin and stdout").with_code(2)),
        (false, None) => {
            note(format!("{} --on-error shell: stdin and stdout are no terminal, so no shell will be opened", Paint::stderr().yellow("note:")));
            Ok(None)
        }
        (true, _) => {
            let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
            Ok(Some(Shell { at: None, on_error: args.on_error.is_some(), env: vec![format!("TERM={term}")], attend: Arc::new(attend) }))
        }
    }
}

/// The place that `--debug-step` names: a stage, `:LINE`, or the number that progress shows before a step of the whole build.
pub fn place(word: &str, plan: Option<&BuildPlan>) -> Result<Place, Failure> {
    let wrong = |what: String| Failure::text(format!("--debug-step {word}: {what}")).with_code(2);
    if let Some((_, line)) = word.rsplit_once(':') {
        return line.parse().map(Place::Line).map_err(|_| wrong("expected a line's number behind the colon".to_owned()));
    }
    let Ok(number) = word.trim_start_matches('#').parse::<usize>() else { return Ok(Place::Stage(word.to_owned())) };
    let steps = plan.map_or(&[][..], |plan| &plan.steps);
    let step = steps.get(number).ok_or_else(|| wrong(format!("the build has {} steps, counted from 0; a line is named as :{number}", steps.len())))?;
    Ok(Place::Line(step.origin.line))
}

/// Makes the last step of a plan the one in whose place the shell is opened.
pub fn aim(shell: &mut Shell, plan: &mut BuildPlan) -> Option<StepIndex> {
    let step = plan.images.first()?.step;
    plan.steps.get_mut(step.0)?.origin.no_cache = true;
    shell.at = Some(step);
    shell.at
}

/// Connects this terminal with the shell until it ends.
fn attend(visit: &Visit<'_>) {
    let paint = Paint::stderr();
    let origin = &visit.step.origin;
    let place = format!("{}:{}: `{}`", origin.file, origin.line, origin.text);
    match visit.failed {
        Some(error) => note(format!("{} {place}: {}", paint.red("failed:"), chain(error))),
        None => note(format!("{} {place}", paint.yellow("shell at"))),
    }
    if visit.command != ["true"] {
        note(format!("the command is: {}", visit.command.join(" ")));
    }
    note("what you change here is thrown away; `exit` goes on");
    if let Err(failure) = connect(visit.process) {
        note(format!("the shell cannot be shown: {failure}"));
    }
}

fn connect(process: &ExecProcess) -> Result<(), Failure> {
    let Some(terminal) = &process.terminal else { return Err(Failure::text("it has no terminal")) };
    let mode = RawMode::enter()?;
    let mut sizes = Signals::new([SIGWINCH])?;
    let handle = sizes.handle();
    let fit = || {
        // A shell that has ended has no size.
        let _ = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| process.resize(size.ws_row, size.ws_col));
    };
    fit();
    let outcome = std::thread::scope(|scope| {
        let typing = scope.spawn(|| pump(std::io::stdin().as_fd().try_clone_to_owned()?, process, |bytes| File::from(terminal.try_clone()?).write_all(bytes)));
        scope.spawn(|| sizes.forever().for_each(|_| fit()));
        let shown = pump(terminal.try_clone()?, process, |bytes| {
            raw(bytes);
            Ok(())
        });
        process.kill();
        handle.close();
        let typed = typing.join().unwrap_or(Ok(()));
        shown.and(typed)
    });
    drop(mode);
    outcome.map_err(Failure::from)
}

/// Copies until either the source or the process ends.
fn pump(source: OwnedFd, process: &ExecProcess, mut sink: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut file = File::from(source.try_clone()?);
    let mut buffer = [0; 8192];
    loop {
        let Some(ended) = process.ended() else { return Ok(()) };
        let mut fds = [PollFd::new(&source, PollFlags::IN), PollFd::from_borrowed_fd(ended, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        if fds[0].revents().is_empty() {
            return Ok(());
        }
        // A terminal whose last writer is gone gives EIO.
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => sink(&buffer[..length])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use strake_plan::{BuildPlan, Op, Origin};
    use strake_stages::debug::Place;

    use super::place;

    #[test]
    fn places_are_stages_lines_and_numbers() {
        let mut plan = BuildPlan::default();
        plan.push(Op::Scratch, Origin { line: 7, ..Origin::default() }, "a");
        let read = |word: &str| place(word, Some(&plan)).map_err(|failure| failure.to_string());
        assert_eq!(read("builder"), Ok(Place::Stage("builder".to_owned())));
        assert_eq!((read(":12"), read("Dockerfile:3")), (Ok(Place::Line(12)), Ok(Place::Line(3))));
        assert_eq!((read("0"), read("#0")), (Ok(Place::Line(7)), Ok(Place::Line(7))));
        assert!(read("1").unwrap_err().contains("has 1 steps") && read(":x").is_err());
    }
}
