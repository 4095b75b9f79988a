//! The images of a pipeline: built with caches that travel, and pushed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use strake_build::BuiltImage;
use strake_plan::BuildPlan;
use strake_registry::PushOptions;
use strake_store::Store;
use strake_words::Reference;

use super::provider::{Event, Run};
use super::summary::Made;
use crate::args::Ci;
use crate::commands::apply::pinned;
use crate::commands::build::build_timed;
use crate::commands::images::{familiar, full};
use crate::commands::plan::Compiled;
use crate::commands::serve::need_root;
use crate::commands::transfer::push_image;
use crate::failure::Failure;

/// Where images and caches go.
#[derive(Clone, Debug)]
pub struct Push {
    /// `HOST[/PATH]` for images that name no registry.
    registry: Option<String>,
    /// Images that name one are pushed too.
    named: bool,
    /// Nothing is pushed.
    off: bool,
    /// A tag beside the manifests' own; alone where nothing is deployed, so that a pull request takes no tag from anybody.
    commit: Option<String>,
    /// The manifests' own tags are set.
    own_tags: bool,
    deploys: bool,
}

impl Push {
    /// As arguments and the run say.
    ///
    /// # Errors
    /// A registry that is none.
    pub fn of(args: &Ci, run: &Run, deploys: bool) -> Result<Push, Failure> {
        let registry = args.registry.as_deref().map(|text| text.trim_end_matches('/').to_owned());
        if let Some(text) = &registry {
            let host = text.split('/').next().unwrap_or_default();
            let parsed = Reference::parse(&format!("{text}/image")).ok().filter(|parsed| parsed.domain == host);
            if parsed.is_none() {
                let text = format!("--registry {text}: expected HOST[:PORT][/PATH] without a scheme, such as registry.example.org/shop or localhost:5000");
                return Err(Failure::text(text).with_code(2));
            }
        }
        let commit =
            run.commit.as_ref().filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric())).map(|id| format!("sha-{}", id.get(..12).unwrap_or(id)));
        let own_tags = deploys || commit.is_none() && !matches!(run.event, Event::PullRequest { .. });
        Ok(Push { registry, named: args.push || args.registry.is_some(), off: args.no_push, commit, own_tags, deploys })
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
        let (mut made, mut running) = (Vec::new(), Vec::new());
        for (index, image) in images.iter().enumerate() {
            let steps = steps_of(plan, index);
            let done: Vec<Duration> = steps.iter().filter_map(|step| times.get(&strake_plan::StepIndex(*step))).copied().collect();
            let (pushed, digest) = self.push(&store, image)?;
            // Strake's own cluster has the store; another one pulls what was pushed.
            running.push(match (&digest, pushed.first()) {
                (Some(digest), Some(first)) if compiled.target.is_foreign() => format!("{first}@{digest}"),
                _ => pinned(image),
            });
            made.push(Made {
                name: image.tags.first().map(|tag| familiar(tag)).unwrap_or_default(),
                digest: digest.unwrap_or(image.manifest).to_string(),
                size_bytes: image.layers.iter().map(|layer| layer.size_bytes).sum(),
                time: done.iter().sum(),
                steps: done.len(),
                pushed,
            });
        }
        Ok((made, running))
    }

    /// `--cache-from` and `--cache-to`: as given, else in the registry. Only what is deployed writes: whoever writes a cache decides what others build.
    fn caches(&self, args: &Ci, set: &str) -> (Vec<String>, Vec<String>) {
        let place = self.registry.as_ref().map(|registry| format!("type=registry,ref={registry}/{set}-cache"));
        let (mut from, mut to) = (args.cache_from.clone(), args.cache_to.clone());
        if let Some(place) = place {
            if from.is_empty() {
                from.push(place.clone());
            }
            if to.is_empty() && self.deploys && !self.off {
                to.push(format!("{place},mode=max"));
            }
        }
        (from, to)
    }

    /// Pushes an image: its references there, and the digest that it has there.
    fn push(&self, store: &Store, image: &BuiltImage) -> Result<(Vec<String>, Option<strake_oci::Digest>), Failure> {
        let mut targets = Vec::new();
        for tag in image.tags.iter().filter(|_| !self.off) {
            targets.extend(self.targets(tag)?);
        }
        let Some(name) = image.tags.first() else { return Ok((Vec::new(), None)) };
        let mut digest = None;
        for target in &targets {
            digest = Some(push_image(store, name, &full(target)?, &PushOptions::default())?);
        }
        Ok((targets, digest))
    }

    /// What a tag of the manifests is called where it is pushed.
    fn targets(&self, tag: &str) -> Result<Vec<String>, Failure> {
        let parsed = Reference::parse(tag).map_err(|error| Failure::text(error.to_string()))?.with_default_tag();
        let repository = match (&self.registry, parsed.domain.as_str()) {
            (Some(registry), "docker.io") => format!("{registry}/{}", parsed.path.strip_prefix("library/").unwrap_or(&parsed.path)),
            (_, "docker.io") => return Ok(Vec::new()),
            _ if self.named => parsed.repository(),
            _ => return Ok(Vec::new()),
        };
        let own = parsed.tag.filter(|_| self.own_tags);
        Ok(own.iter().chain(&self.commit).map(|tag| format!("{repository}:{tag}")).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn push(registry: Option<&str>, own_tags: bool) -> Push {
        Push { registry: registry.map(str::to_owned), named: registry.is_some(), off: false, commit: Some("sha-abc".to_owned()), own_tags, deploys: own_tags }
    }

    #[test]
    fn images_go_where_their_names_or_the_registry_say() {
        let there = push(Some("localhost:5000/shop"), true);
        assert_eq!(there.targets("docker.io/library/web:1").expect("names"), ["localhost:5000/shop/web:1", "localhost:5000/shop/web:sha-abc"]);
        assert_eq!(there.targets("ghcr.io/team/web").expect("names"), ["ghcr.io/team/web:latest", "ghcr.io/team/web:sha-abc"]);
        // A pull request takes nobody's tag.
        assert_eq!(push(Some("r.example"), false).targets("docker.io/library/web:1").expect("names"), ["r.example/web:sha-abc"]);
        assert!(push(None, true).targets("docker.io/library/web:1").expect("names").is_empty());
        assert!(push(None, true).targets("ghcr.io/team/web:1").expect("names").is_empty());
    }
}
