//! strake test: runs the test hooks of what is deployed.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use strake_apply::history::deployed;
use strake_apply::{Applier, ApplyError, Event, Options, Revisions};
use strake_plan::Occasion;

use crate::args::{Format, Progress, Test};
use crate::commands::history::{Named, named};
use crate::commands::telling::{View, explain};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{counted, data, say, took};

/// Runs the hooks for which Helm has the word `test`, of the revision that is deployed, one after another.
///
/// # Errors
/// The first one that fails, with what it said.
pub fn test(root: &Path, args: &Test) -> Result<(), Failure> {
    interrupt::gracefully("the test that ran may go on; run it again to begin anew", async |stop| {
        let Named { name, client, .. } = named(root, &args.dir, &args.of).await?;
        let revisions = Revisions::new(&client, &name.set, &name.namespace);
        let entries = revisions.list().await.map_err(explain)?;
        let Some(entry) = deployed(&entries) else {
            return Err(Failure::text(format!("set {} in {} is not deployed: there is nothing to test (`strake apply` deploys it)", name.set, name.namespace)));
        };
        let plan = revisions.plan(entry).await.map_err(explain)?;
        if !plan.occasions.iter().any(|hook| hook.when == Occasion::Test) {
            let text = format!("revision {} of set {} has no tests: a Job or Pod with the annotation helm.sh/hook: test is one", entry.number, name.set);
            return Err(Failure::text(text));
        }
        let started = Instant::now();
        let progress = if args.output == Format::Text { args.progress } else { Progress::Quiet };
        let view = View::new(progress, false);
        let show = |event: Event| view.show(&event);
        let options = Options {
            wait: Some(Duration::from_secs(args.timeout)),
            lock: !args.no_lock,
            lock_wait: Duration::from_secs(args.lock_wait),
            logs: progress != Progress::Quiet,
            stop: Some(stop),
            ..Options::default()
        };
        let ran = Applier::new(&client, &plan, options, &show).test().await.map_err(|error| match error {
            ApplyError::Interrupted => Failure::interrupted("the test that ran may go on; run it again to begin anew"),
            error => explain(error),
        })?;
        if args.output == Format::Text {
            say(format!("{} passed of revision {} in {}", counted(ran.len(), "test"), entry.number, took(started.elapsed())));
        } else {
            let names: Vec<String> = ran.iter().map(ToString::to_string).collect();
            say(data(&json!({"set": name.set, "namespace": name.namespace, "revision": entry.number, "passed": names}), args.output));
        }
        Ok(())
    })
}
