//! Where images go that another cluster is to run: to which registry, under which names, and with which digest, which is known before anything is sent.

use std::collections::BTreeSet;

use strake_build::BuiltImage;
use strake_oci::Digest;
use strake_plan::{DeployPlan, Plan};
use strake_registry::PushOptions;
use strake_store::{Lease, Store};
use strake_words::Reference;

use crate::args::{Outgoing, Target};
use crate::commands::images::{familiar, full};
use crate::commands::transfer::push_image;
use crate::failure::Failure;
use crate::interrupt;

/// Where images are called what.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// `HOST[/PATH]` for images that name no registry.
    pub registry: Option<String>,
    /// Images that name one are pushed too.
    pub named: bool,
    /// Nothing is sent.
    pub off: bool,
    /// A tag beside the manifests' own; alone where nothing is deployed, so that a pull request takes no tag from anybody.
    pub commit: Option<String>,
    /// The manifests' own tags are set.
    pub own_tags: bool,
}

impl Delivery {
    /// As `--push-to` says, else the project's file.
    ///
    /// # Errors
    /// A registry that is none.
    pub fn of(outgoing: &Outgoing, target: &Target) -> Result<Delivery, Failure> {
        let (text, word) = match (&outgoing.push_to, &target.registry) {
            (Some(text), _) => (text, "--push-to"),
            (None, Some(text)) => (text, "`registry` of strake.yaml:"),
            (None, None) => return Ok(Delivery { own_tags: true, ..Delivery::default() }),
        };
        let text = text.trim_end_matches('/');
        let host = text.split('/').next().unwrap_or_default();
        if Reference::parse(&format!("{text}/image")).ok().is_none_or(|parsed| parsed.domain != host) {
            let text = format!("{word} {text}: expected HOST[:PORT][/PATH] without a scheme, such as registry.example.org/shop or localhost:5000");
            return Err(Failure::text(text).with_code(2));
        }
        Ok(Delivery { registry: Some(text.to_owned()), named: true, own_tags: true, ..Delivery::default() })
    }

    /// As [`Delivery::of`], for a command that pushes only what another cluster pulls.
    ///
    /// # Errors
    /// Also a registry that is named for strake's own cluster.
    pub fn elsewhere(outgoing: &Outgoing, target: &Target) -> Result<Delivery, Failure> {
        match &outgoing.push_to {
            Some(registry) if !target.is_foreign() => {
                let text = format!(
                    "--push-to {registry}: strake's own cluster runs images from this machine's store and pulls nothing\n  name the cluster that is to pull with --context or --kubeconfig, or leave --push-to out"
                );
                Err(Failure::text(text).with_code(2))
            }
            _ => Delivery::of(outgoing, target),
        }
    }

    /// Before anything is built: whether every image that the target is to run has a place that it can be pulled from. `own` is strake's own cluster, which has
    /// the store itself.
    ///
    /// # Errors
    /// Images that no other cluster can get.
    pub fn check(&self, target: &Target, plan: &Plan, own: bool) -> Result<(), Failure> {
        if own {
            return Ok(());
        }
        let mut lost = BTreeSet::new();
        for (index, change) in plan.deploy.runs() {
            let Some(image) = plan.build.images.get(index) else { continue };
            let Some(tag) = image.tags.first() else { continue };
            if self.repository(&parsed(tag)?).is_none() {
                lost.insert(format!(
                    "\n  {} runs {}, which is built from {}:{}  ({})",
                    change.id,
                    familiar(tag),
                    image.origin.file,
                    image.origin.line,
                    change.origin
                ));
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let cluster = match (&target.context, &target.kubeconfig) {
            (Some(context), _) => format!("the cluster of context {context}"),
            (None, Some(path)) => format!("the cluster of {}", path.display()),
            (None, None) => "the cluster".to_owned(),
        };
        let list: String = lost.into_iter().collect();
        let text = format!(
            "{cluster} has no way to images that are built here, and no registry is named:{list}\n  push them where it pulls from: --push-to HOST[:PORT][/PATH], or `registry: HOST[/PATH]` in strake.yaml"
        );
        Err(Failure::text(text))
    }

    /// Where a tag of the manifests is pushed, without a tag.
    fn repository(&self, parsed: &Reference) -> Option<String> {
        match (&self.registry, parsed.domain.as_str()) {
            (Some(registry), "docker.io") => Some(format!("{registry}/{}", parsed.path.strip_prefix("library/").unwrap_or(&parsed.path))),
            (_, "docker.io") => None,
            _ if self.named => Some(parsed.repository()),
            _ => None,
        }
    }

    /// What a tag of the manifests is called where it is pushed.
    fn names(&self, tag: &str) -> Result<Vec<String>, Failure> {
        let parsed = parsed(tag)?;
        let Some(repository) = self.repository(&parsed) else { return Ok(Vec::new()) };
        let own = parsed.tag.filter(|_| self.own_tags);
        Ok(own.iter().chain(&self.commit).map(|tag| format!("{repository}:{tag}")).collect())
    }

    /// What containers of another cluster run: the manifests' tag where it is pushed, at the digest that it will have there, which is what its layers come to when they are
    /// packed. Nothing for an image that is not pushed.
    ///
    /// # Errors
    /// The store cannot be read, or a layer not be packed.
    pub fn reference(&self, store: &Store, image: &BuiltImage) -> Result<Option<String>, Failure> {
        let Some(tag) = image.tags.first() else { return Ok(None) };
        let parsed = parsed(tag)?;
        let Some(repository) = self.repository(&parsed) else { return Ok(None) };
        let packed = store.packed_all(&image.manifest.to_string(), None)?;
        Ok(Some(format!("{repository}:{}@{}", parsed.tag.as_deref().unwrap_or("latest"), packed.top().0.digest())))
    }

    /// What containers of `target` run of each image: by the names and digests of where it is pushed in another cluster, those of the store in strake's own.
    ///
    /// # Errors
    /// As [`Delivery::reference`].
    pub fn running(&self, store: &Store, images: &[BuiltImage], target: &Target) -> Result<Vec<String>, Failure> {
        let each = |image: &BuiltImage| match if target.is_foreign() { self.reference(store, image)? } else { None } {
            Some(there) => Ok(there),
            None => Ok(pinned(image)),
        };
        images.iter().map(each).collect()
    }

    /// Pushes an image: its references there, and the digest that it has there.
    ///
    /// # Errors
    /// The registry refuses or does not answer.
    pub fn push(&self, store: &Store, image: &BuiltImage) -> Result<(Vec<String>, Option<Digest>), Failure> {
        let mut names = Vec::new();
        for tag in image.tags.iter().filter(|_| !self.off) {
            names.extend(self.names(tag)?);
        }
        // By content: another build may give the tag to something else meanwhile.
        let content = image.manifest.to_string();
        let mut digest = None;
        for name in &names {
            digest = Some(push_image(store, &content, &full(name)?, &PushOptions::default())?);
        }
        Ok((names, digest))
    }
}

/// `repository:tag@digest`: what runs is what was built, whatever the tag comes to mean.
pub fn pinned(image: &BuiltImage) -> String {
    let tag = image.tags.first().map(String::as_str).unwrap_or_default();
    format!("{tag}@{}", image.manifest)
}

fn parsed(tag: &str) -> Result<Reference, Failure> {
    Ok(Reference::parse(tag).map_err(|error| Failure::text(error.to_string()))?.with_default_tag())
}

/// Images that are built and not yet where they are to run.
pub struct Shipment {
    store: Store,
    /// What was built is not pruned before it has arrived.
    _lease: Lease,
    images: Vec<BuiltImage>,
    delivery: Delivery,
}

impl Shipment {
    /// The images of a plan that its target has to pull; nothing where it has them.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn of(store: Store, images: Vec<BuiltImage>, plan: &DeployPlan, delivery: &Delivery, target: &Target) -> Result<Option<Shipment>, Failure> {
        let used: BTreeSet<usize> = plan.runs().map(|(index, _)| index).collect();
        let images: Vec<BuiltImage> = images.into_iter().enumerate().filter(|(index, _)| used.contains(index)).map(|(_, image)| image).collect();
        if images.is_empty() || !target.is_foreign() {
            return Ok(None);
        }
        let lease = store.lease()?;
        Ok(Some(Shipment { store, _lease: lease, images, delivery: delivery.clone() }))
    }

    /// Pushes all of it. The cluster is not touched before that.
    ///
    /// # Errors
    /// As [`Delivery::push`].
    pub fn send(&self) -> Result<(), Failure> {
        for image in &self.images {
            if interrupt::raised() {
                return Err(Failure::interrupted("the cluster was not touched; what has arrived in the registry is kept there"));
            }
            self.delivery.push(&self.store, image)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(registry: Option<&str>, own_tags: bool) -> Delivery {
        Delivery { registry: registry.map(str::to_owned), named: registry.is_some(), off: false, commit: Some("sha-abc".to_owned()), own_tags }
    }

    #[test]
    fn images_go_where_their_names_or_the_registry_say() {
        let there = delivery(Some("localhost:5000/shop"), true);
        assert_eq!(there.names("docker.io/library/web:1").expect("names"), ["localhost:5000/shop/web:1", "localhost:5000/shop/web:sha-abc"]);
        assert_eq!(there.names("ghcr.io/team/web").expect("names"), ["ghcr.io/team/web:latest", "ghcr.io/team/web:sha-abc"]);
        // A pull request takes nobody's tag.
        assert_eq!(delivery(Some("r.example"), false).names("docker.io/library/web:1").expect("names"), ["r.example/web:sha-abc"]);
        assert!(delivery(None, true).names("docker.io/library/web:1").expect("names").is_empty());
        assert!(delivery(None, true).names("ghcr.io/team/web:1").expect("names").is_empty());
    }

    #[test]
    fn a_registry_is_named_without_a_scheme_and_only_for_another_cluster() {
        let named = |text: &str| Outgoing { push_to: Some(text.to_owned()) };
        let target = |registry: Option<&str>| Target { context: Some("prod".to_owned()), registry: registry.map(str::to_owned), ..Target::default() };
        let of = |outgoing: &Outgoing, target: &Target| Delivery::of(outgoing, target).map(|delivery| delivery.registry);
        assert_eq!(of(&named("localhost:5000/a/"), &target(Some("other.example"))).expect("a registry").as_deref(), Some("localhost:5000/a"));
        assert_eq!(of(&Outgoing::default(), &target(Some("other.example/b"))).expect("a registry").as_deref(), Some("other.example/b"));
        for wrong in ["https://x.example", "shop", ""] {
            assert!(of(&named(wrong), &target(None)).is_err(), "{wrong}");
        }
        assert!(of(&Outgoing::default(), &target(Some("https://x"))).expect_err("a scheme").to_string().contains("`registry` of strake.yaml: https://x"));
        let own = Delivery::elsewhere(&named("localhost:5000"), &Target::default()).expect_err("nothing to push for");
        assert!(own.to_string().contains("strake's own cluster runs images from this machine's store"), "{own}");
    }
}
