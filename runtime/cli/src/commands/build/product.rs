//! What a build gives: one image, or an index of images and of statements about them, and its names.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strake_build::BuiltImage;
use strake_build::attest::{
    AnnotationTarget, Annotations, Composed, Dependency, Part, Provenance, SLSA_PROVENANCE, SPDX, Statement, Times, compose, image_purl, inventory, spdx,
};
use strake_oci::{Digest, Platform};
use strake_plan::{BuildPlan, Image, Op};
use strake_stages::Request;
use strake_store::Store;

use super::attest::{Attest, ProvenanceWish};
use crate::commands::images::familiar;
use crate::failure::Failure;
use crate::output::{Paint, note};

/// What is asked for besides the images.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub annotations: Annotations,
    pub attest: Attest,
}

impl Wishes {
    /// Refuses annotations of an index where there will be none, before anything is built. `more` are those of an output.
    pub fn check(&self, platforms: &[Platform], more: &Annotations) -> Result<(), Failure> {
        let on_index = |target: &AnnotationTarget| matches!(target, AnnotationTarget::Index | AnnotationTarget::ManifestDescriptor);
        let wanted = self.annotations.0.iter().chain(&more.0).any(|annotation| on_index(&annotation.target));
        if wanted && platforms.len() == 1 && !self.attest.any() {
            let text = "annotations of an index need one: build for several platforms, or attach an attestation (--provenance, --sbom)";
            return Err(Failure::text(text).with_code(2));
        }
        Ok(())
    }

    /// Whether an index carries the names.
    pub fn indexes(&self, platforms: &[Platform]) -> bool {
        platforms.len() > 1 || self.attest.any()
    }

    /// Whether the images cannot carry their names themselves.
    pub fn composes(&self, platforms: &[Platform]) -> bool {
        self.indexes(platforms) || !self.annotations.0.is_empty()
    }
}

/// What the statements are made from.
pub struct Facts<'a> {
    pub plan: &'a BuildPlan,
    pub request: &'a Request,
    /// The Dockerfile's text.
    pub text: &'a str,
    /// What the context is, when it is not local.
    pub source: Option<Dependency>,
    /// What was fetched.
    pub remotes: Vec<Dependency>,
    /// Seconds since 1970.
    pub epoch: Option<i64>,
    /// When the build began.
    pub started: jiff::Timestamp,
}

/// What a build gave.
pub struct Product {
    /// The images, in the order of the platforms.
    pub parts: Vec<Part>,
    /// What carries the names.
    pub composed: Composed,
    /// Its names, in full.
    pub tags: Vec<String>,
    annotations: Annotations,
    /// Names of the files that statements become beside an output of files, by the kind of statement.
    files: BTreeMap<&'static str, String>,
}

impl Product {
    /// Puts images together and names the result.
    pub fn make(store: &Store, images: Vec<BuiltImage>, platforms: &[Platform], tags: &[String], wishes: &Wishes, facts: &Facts<'_>) -> Result<Self, Failure> {
        let mut parts = Vec::new();
        for (place, (image, platform)) in images.into_iter().zip(platforms).enumerate() {
            let statements = statements(store, &image, facts.plan.images.get(place), wishes, facts, tags)?;
            parts.push(Part { image, platform: platform.clone(), statements });
        }
        if parts.is_empty() {
            return Err(Failure::text("the plan names no image"));
        }
        let composed = composed(store, &parts, &wishes.annotations, tags)?;
        for tag in tags {
            store.tag(tag, &composed.descriptor)?;
        }
        let mut files = BTreeMap::new();
        if let Some(wish) = wishes.attest.provenance.as_ref().filter(|wish| !wish.inline_only) {
            files.insert(SLSA_PROVENANCE, wish.file_name.clone().unwrap_or_else(|| "provenance.json".to_owned()));
        }
        if wishes.attest.sbom {
            files.insert(SPDX, "sbom.spdx.json".to_owned());
        }
        Ok(Product { parts, composed, tags: tags.to_vec(), annotations: wishes.annotations.clone(), files })
    }

    /// The digest by which everything is known: of the index, or of the only manifest.
    pub fn digest(&self) -> String {
        self.composed.descriptor.digest().to_string()
    }

    /// What people call the image's id: the index, or the only image's configuration.
    pub fn id(&self) -> String {
        match &self.parts[..] {
            [only] if !self.composed.is_index => only.image.config_digest.to_string(),
            _ => self.digest(),
        }
    }

    /// Says what was made of the images.
    pub fn tell(&self) {
        let tags: Vec<String> = self.tags.iter().map(|tag| familiar(tag)).collect();
        let tags = if tags.is_empty() { "image".to_owned() } else { tags.join(", ") };
        let platforms: Vec<String> = self.parts.iter().map(|part| part.platform.to_string()).collect();
        note(format!("built {tags} {} ({})", self.digest(), platforms.join(", ")));
    }

    /// The same images with more annotations, without a name.
    pub fn annotated(&self, store: &Store, more: &Annotations) -> Result<Composed, Failure> {
        if more.0.is_empty() {
            return Ok(self.composed.clone());
        }
        let all = Annotations(self.annotations.0.iter().chain(&more.0).cloned().collect());
        composed(store, &self.parts, &all, &self.tags)
    }

    /// Annotations of the entry that names the whole in a layout.
    pub fn entry_annotations(&self, more: &Annotations) -> BTreeMap<String, String> {
        let mut all = self.annotations.of(AnnotationTarget::IndexDescriptor, None);
        all.extend(more.of(AnnotationTarget::IndexDescriptor, None));
        all
    }

    /// The files that an image's statements become beside its files: name and content.
    pub fn statement_files(&self, place: usize) -> Vec<(String, Vec<u8>)> {
        let part = &self.parts[place];
        let of = |statement: &Statement| {
            let name = self.files.get(statement.kind.as_str())?;
            Some((name.clone(), statement.encode(&names(&self.tags, Some(&part.platform)), &self.composed.manifests[place])))
        };
        part.statements.iter().filter_map(of).collect()
    }

    /// What buildx writes to its metadata file about the image.
    pub fn metadata(&self) -> Value {
        let mut value = json!({ "containerimage.digest": self.digest(), "containerimage.descriptor": self.composed.descriptor });
        if let ([only], false) = (&self.parts[..], self.composed.is_index) {
            value["containerimage.config.digest"] = only.image.config_digest.to_string().into();
        }
        for part in &self.parts {
            let Some(provenance) = part.statements.iter().find(|statement| statement.kind == SLSA_PROVENANCE) else { continue };
            let name = if self.parts.len() > 1 { format!("buildx.build.provenance/{}", part.platform) } else { "buildx.build.provenance".to_owned() };
            value[name] = provenance.predicate.clone();
        }
        value
    }
}

fn composed(store: &Store, parts: &[Part], annotations: &Annotations, tags: &[String]) -> Result<Composed, Failure> {
    Ok(compose(store, parts, annotations, &names(tags, None))?)
}

/// Package URLs of names.
fn names(tags: &[String], platform: Option<&Platform>) -> Vec<String> {
    tags.iter().map(|tag| image_purl(&familiar(tag), platform)).collect()
}

fn statements(
    store: &Store,
    image: &BuiltImage,
    planned: Option<&Image>,
    wishes: &Wishes,
    facts: &Facts<'_>,
    tags: &[String],
) -> Result<Vec<Statement>, Failure> {
    let mut statements = Vec::new();
    if wishes.attest.sbom {
        let found = inventory(store, image.layers.last().map(|layer| &layer.chain_id))?;
        found.warnings.iter().for_each(|warning| note(format!("{} sbom: {warning}", Paint::stderr().yellow("warning:"))));
        let name = tags.first().map_or_else(|| image.config_digest.to_string(), |tag| familiar(tag));
        statements.push(Statement { kind: SPDX.to_owned(), predicate: spdx(&found, &name, &timestamp(facts.epoch.unwrap_or(0))) });
    }
    if let (Some(wish), Some(planned)) = (&wishes.attest.provenance, planned) {
        statements.push(Statement { kind: SLSA_PROVENANCE.to_owned(), predicate: provenance(store, wish, planned, facts) });
    }
    Ok(statements)
}

fn provenance(store: &Store, wish: &ProvenanceWish, image: &Image, facts: &Facts<'_>) -> Value {
    let request = facts.request;
    let mut locals: Vec<String> = request.named_contexts.keys().cloned().collect();
    if facts.source.is_none() {
        locals.insert(0, request.context_name.clone());
    }
    let now = || Times { started: facts.started.to_string(), finished: jiff::Timestamp::now().to_string() };
    let fixed = |seconds: i64| Times { started: timestamp(seconds), finished: timestamp(seconds) };
    Provenance {
        max: wish.max,
        plan: facts.plan,
        image,
        builder_platform: Platform::host(),
        builder_id: wish.builder_id.clone(),
        path: request.file_name.clone(),
        text: facts.text.to_owned(),
        source: facts.source.clone(),
        locals,
        target: request.target.clone(),
        build_args: &request.build_args,
        labels: &request.labels,
        bases: &bases(store, facts.plan),
        remotes: facts.remotes.clone(),
        reproducible: wish.reproducible,
        times: wish.times.then(|| facts.epoch.map_or_else(now, fixed)),
    }
    .predicate()
}

/// What base images are called, and what they are for.
fn bases(store: &Store, plan: &BuildPlan) -> BTreeMap<Digest, (String, Platform)> {
    let named = plan.steps.iter().filter_map(|step| if let Op::Base { reference, manifest, .. } = &step.op { Some((reference, manifest)) } else { None });
    let each = |(reference, manifest): (&String, &Digest)| {
        Some((*manifest, (familiar(reference), store.image(&manifest.to_string()).ok()?.config.platform().normalised())))
    };
    named.filter_map(each).collect()
}

/// RFC 3339.
fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Says what mode=max gives away.
pub fn warn_of_values(wishes: &Wishes, request: &Request) {
    let given: Vec<&str> = request.build_args.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.as_str()).collect();
    if wishes.attest.provenance.as_ref().is_some_and(|wish| wish.max) && !given.is_empty() {
        note(format!("{} provenance in mode=max tells everybody who has the image the values of {}", Paint::stderr().yellow("note:"), given.join(", ")));
    }
}
