//! The images of a pipeline: built with caches that travel, and pushed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use strake_plan::BuildPlan;
use strake_store::Store;

use super::provider::{Event, Run};
use super::summary::Made;
use crate::args::{Ci, Target};
use crate::commands::build::build_timed;
use crate::commands::delivery::Delivery;
use crate::commands::images::familiar;
use crate::commands::plan::Compiled;
use crate::commands::serve::need_root;
use crate::failure::Failure;

/// Where images and caches go.
#[derive(Clone, Debug)]
pub struct Push {
    delivery: Delivery,
    deploys: bool,
}

impl Push {
    /// As arguments, the project's file and the run say.
    ///
    /// # Errors
    /// A registry that is none.
    pub fn of(args: &Ci, run: &Run, target: &Target, deploys: bool) -> Result<Push, Failure> {
        let delivery = Delivery::of(&args.apply.outgoing, target)?;
        let commit =
            run.commit.as_ref().filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric())).map(|id| format!("sha-{}", id.get(..12).unwrap_or(id)));
        let own_tags = deploys || commit.is_none() && !matches!(run.event, Event::PullRequest { .. });
        Ok(Push { delivery: Delivery { named: args.push || delivery.named, off: args.no_push, commit, own_tags, ..delivery }, deploys })
    }

    /// Before anything is built: whether what is to be applied can be pulled.
    ///
    /// # Errors
    /// As [`Delivery::check`].
    pub fn check(&self, compiled: &Compiled, own: bool) -> Result<(), Failure> {
        self.delivery.check(&compiled.target, &compiled.plan, own)
    }

    /// Builds and pushes; what was made, and what containers run, an image each.
    pub fn build(&self, root: &Path, args: &Ci, compiled: &Compiled) -> Result<(Vec<Made>, Vec<String>), Failure> {
        let plan = &compiled.plan.build;
        if plan.images.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        need_root("building images")?;
        let store = Store::open(root)?;
        let _lease = store.lease()?;
        let (from, to) = self.caches(args, &compiled.plan.deploy.set);
        let (images, times) = build_timed(root, &store, plan, &compiled.sources, args.apply.progress, (&from, &to))?;
        let mut made = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let steps = steps_of(plan, index);
            let done: Vec<Duration> = steps.iter().filter_map(|step| times.get(&strake_plan::StepIndex(*step))).copied().collect();
            let (pushed, digest) = self.delivery.push(&store, image)?;
            made.push(Made {
                name: image.tags.first().map(|tag| familiar(tag)).unwrap_or_default(),
                digest: digest.unwrap_or(image.manifest).to_string(),
                size_bytes: image.layers.iter().map(|layer| layer.size_bytes).sum(),
                time: done.iter().sum(),
                steps: done.len(),
                pushed,
            });
        }
        // Strake's own cluster has the store; another one pulls what was pushed.
        let running = self.delivery.running(&store, &images, &compiled.target)?;
        Ok((made, running))
    }

    /// Builds what another revision builds, for its digests only: with the same caches, and nothing is pushed or remembered elsewhere.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn digests(&self, root: &Path, args: &Ci, compiled: &Compiled) -> Result<Vec<String>, Failure> {
        let plan = &compiled.plan.build;
        if plan.images.is_empty() {
            return Ok(Vec::new());
        }
        let store = Store::open(root)?;
        let _lease = store.lease()?;
        let (from, _) = self.caches(args, &compiled.plan.deploy.set);
        let (images, _) = build_timed(root, &store, plan, &compiled.sources, args.apply.progress, (&from, &[]))?;
        self.delivery.running(&store, &images, &compiled.target)
    }

    /// `--cache-from` and `--cache-to`: as given, else in the registry. Only what is deployed writes: whoever writes a cache decides what others build.
    fn caches(&self, args: &Ci, set: &str) -> (Vec<String>, Vec<String>) {
        let place = self.delivery.registry.as_ref().map(|registry| format!("type=registry,ref={registry}/{set}-cache"));
        let (mut from, mut to) = (args.cache_from.clone(), args.cache_to.clone());
        if let Some(place) = place {
            if from.is_empty() {
                from.push(place.clone());
            }
            if to.is_empty() && self.deploys && !self.delivery.off {
                to.push(format!("{place},mode=max"));
            }
        }
        (from, to)
    }
}

/// The steps that an image is made of.
fn steps_of(plan: &BuildPlan, image: usize) -> BTreeSet<usize> {
    let mut wanted: BTreeSet<usize> = plan.images.get(image).map(|image| image.step.0).into_iter().collect();
    let mut open: Vec<usize> = wanted.iter().copied().collect();
    while let Some(index) = open.pop() {
        let inputs = plan.steps.get(index).map(|step| step.op.inputs()).unwrap_or_default();
        open.extend(inputs.into_iter().map(|input| input.0).filter(|input| wanted.insert(*input)));
    }
    wanted
}
