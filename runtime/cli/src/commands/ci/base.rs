//! What a pull request is compared with.

use std::path::Path;
use std::process::Command;

use strake_apply::review::Review;

use super::images::Push;
use super::plan_args;
use super::provider::{Event, Run};
use crate::args::Ci;
use crate::commands::plan::{Compiled, reviewed};
use crate::failure::Failure;
use crate::interrupt::INTERRUPTED;
use crate::output::{Paint, note};

/// What changes since the base. Where there is none that could be meant, everything is new.
pub fn review(root: &Path, args: &Ci, run: &Run, push: &Push, compiled: &mut Compiled) -> Result<Option<Review>, Failure> {
    let dir = &args.apply.input.dir;
    let digests = |other: &Compiled| push.digests(root, args, other);
    let warning = |text: String| note(format!("{} {text}", Paint::stderr().yellow("warning:")));
    let base = match &args.against {
        Some(named) => Some(named.clone()),
        None if crate::inputs::is_repository(dir) || crate::inputs::is_stdin(&args.apply.input) => None,
        None => fork(dir, run)?,
    };
    let Some(base) = base else {
        warning("there is nothing to compare with (name it with --against): everything is shown as new".to_owned());
        return reviewed(root, &plan_args(args, None, true), compiled, &digests);
    };
    match reviewed(root, &plan_args(args, Some(base.clone()), false), compiled, &digests) {
        // What mends a broken base must be reviewable.
        Err(failure) if failure.to_string().is_empty() && failure.code() != INTERRUPTED => {
            warning(format!("{base} cannot be compiled (its findings are above): everything is shown as new"));
            reviewed(root, &plan_args(args, None, true), compiled, &digests)
        }
        other => other,
    }
}

/// The commit where the branch of the checkout left the one it goes to.
///
/// # Errors
/// For a pull request whose base is not in the checkout.
fn fork(dir: &Path, run: &Run) -> Result<Option<String>, Failure> {
    let folder = if dir.is_dir() { dir } else { dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")) };
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
    };
    let known = |name: &String| git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")]);
    let Some(base) = run.bases.iter().filter(|name| !name.starts_with('-')).find_map(known) else {
        if matches!(run.event, Event::PullRequest { .. }) {
            let text = format!(
                "the checkout does not have what the pull request is compared with ({})\n  fetch its history: `fetch-depth: 0` for actions/checkout, `GIT_DEPTH: 0` for GitLab; or name a revision with --against",
                run.bases.join(", ")
            );
            return Err(Failure::text(text));
        }
        return Ok(None);
    };
    Ok(Some(git(&["merge-base", &base, "HEAD"]).unwrap_or(base)))
}
