//! `--cache-from`, `--cache-to`: build caches that come from elsewhere and go there.

mod layout;
mod parse;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use strake_build::{BlobSource, BuildOptions, CacheExport, ImportedCache, InlineCache, MountChoice, PackedCache, Share, StepRecord, pack_cache};
use strake_oci::{Descriptor, Platform};
use strake_plan::{BuildPlan, StepIndex};
use strake_registry::{PullOptions, PushOptions};
use strake_store::{Packing, Store, digest_of};

use crate::args::Build;
use crate::commands::images::familiar;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, counted, note, size};

/// Where a cache is, or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A repository; the reference is in its long form.
    Registry { reference: String, insecure: bool },
    /// An OCI layout in a directory.
    Local { dir: PathBuf, tag: String, digest: Option<String>, reset: bool },
    /// In the image itself.
    Inline,
}

/// One `--cache-to`.
#[derive(Clone, Debug)]
pub struct CacheTo {
    place: Place,
    every_step: bool,
    compression: Packing,
    mounts: MountChoice,
    ignore_error: bool,
    /// Which of several targets asked for it.
    parts: Vec<usize>,
    /// Their images and steps, once they are known; everything that was built, without several targets.
    share: Option<(BTreeSet<StepIndex>, Share)>,
}

/// One `--cache-from`.
#[derive(Clone, Debug)]
pub struct CacheFrom {
    place: Place,
    mounts: MountChoice,
}

/// What a build does with caches of elsewhere.
#[derive(Debug, Default)]
pub struct Caches {
    from: Vec<CacheFrom>,
    to: Vec<CacheTo>,
    imports: Vec<ImportedCache>,
    records: Arc<Mutex<Vec<StepRecord>>>,
}

impl Caches {
    /// Reads the arguments.
    ///
    /// # Errors
    /// Wrong usage, before anything is done.
    pub fn parse(args: &Build) -> Result<Self, Failure> {
        Self::of(&args.cache_from, &args.cache_to)
    }

    /// Reads the words of both.
    ///
    /// # Errors
    /// Wrong usage, before anything is done.
    pub fn of(from: &[String], to: &[String]) -> Result<Self, Failure> {
        let from = from.iter().map(|text| parse::from(text)).collect::<Result<Vec<_>, _>>()?;
        let to = to.iter().map(|text| parse::to(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Caches { from, to, ..Caches::default() })
    }

    /// Reads the words of several targets of one build: a cache that comes is of use to all of them, one that goes holds the steps of those that name it.
    ///
    /// # Errors
    /// Wrong usage, before anything is done.
    pub fn of_parts<'a>(parts: impl Iterator<Item = &'a Build>) -> Result<Self, Failure> {
        let (mut from, mut to, mut wanted) = (Vec::new(), Vec::<String>::new(), Vec::<Vec<usize>>::new());
        for (part, args) in parts.enumerate() {
            from.extend(args.cache_from.iter().filter(|word| !from.contains(*word)).cloned().collect::<Vec<_>>());
            for word in &args.cache_to {
                match to.iter().position(|known| known == word) {
                    Some(place) => wanted[place].push(part),
                    None => {
                        to.push(word.clone());
                        wanted.push(vec![part]);
                    }
                }
            }
        }
        let mut caches = Caches::of(&from, &to)?;
        caches.to.iter_mut().zip(wanted).for_each(|(to, parts)| to.parts = parts);
        Ok(caches)
    }

    /// Says which images are whose: for each of the targets those of its steps.
    pub fn share(&mut self, plan: &BuildPlan, images: &[Vec<StepIndex>]) {
        for to in &mut self.to {
            let own: Vec<StepIndex> = to.parts.iter().filter_map(|part| images.get(*part)).flatten().copied().collect();
            to.share = Some((own.iter().copied().collect(), Share::of(plan, &own)));
        }
    }

    /// Reads the caches that a build may use, and tells the build what to keep for those that it writes. One that cannot be had is a warning.
    ///
    /// # Errors
    /// An interrupt.
    pub fn prepare(&mut self, store: &Store, options: &mut BuildOptions) -> Result<(), Failure> {
        for from in &self.from {
            match import(from, store) {
                Ok(cache) => {
                    note(format!("using the build cache {}: {}", cache.name, counted(cache.record_count(), "step")));
                    self.imports.push(cache);
                }
                Err(failure) if failure.code() == interrupt::INTERRUPTED => return Err(failure),
                Err(failure) => note(format!("{} the build cache {} is not used: {failure}", Paint::stderr().yellow("warning:"), from.place.name())),
            }
        }
        options.imports.clone_from(&self.imports);
        let inline = self.to.iter().filter(|to| to.place == Place::Inline);
        options.inline_cache = inline.fold(InlineCache::None, |known, to| match (known, &to.share) {
            (InlineCache::All, _) | (_, None) => InlineCache::All,
            (InlineCache::None, Some((images, _))) => InlineCache::Of(images.clone()),
            (InlineCache::Of(known), Some((images, _))) => InlineCache::Of(known.union(images).copied().collect()),
        });
        options.records = self.to.iter().any(|to| to.place != Place::Inline).then(|| Arc::clone(&self.records));
        Ok(())
    }

    /// Writes the caches that were asked for, after the build.
    ///
    /// # Errors
    /// One that cannot be written and whose errors are not to be ignored.
    pub fn export(&self, store: &Store) -> Result<(), Failure> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for to in self.to.iter().filter(|to| to.place != Place::Inline) {
            match self.export_one(store, &records, to) {
                Ok(()) => {}
                Err(failure) if to.ignore_error && failure.code() != interrupt::INTERRUPTED => {
                    note(format!("{} the build cache {} was not written: {failure}", Paint::stderr().yellow("warning:"), to.place.name()));
                }
                Err(failure) => return Err(Failure::text(format!("cannot write the build cache {}: {failure}", to.place.name())).with_code(failure.code())),
            }
        }
        Ok(())
    }

    fn export_one(&self, store: &Store, records: &[StepRecord], to: &CacheTo) -> Result<(), Failure> {
        let export = CacheExport { every_step: to.every_step, compression: to.compression, mounts: to.mounts.clone() };
        let own = to.share.as_ref().map(|(_, share)| share.records(records));
        let cache = pack_cache(store, own.as_deref().unwrap_or(records), &self.imports, &export)?;
        for (id, why) in &cache.left_out {
            note(format!("{} the cache mount {id} is not part of the build cache: {why}", Paint::stderr().yellow("warning:")));
        }
        match &to.place {
            Place::Registry { reference, insecure } => push(store, &cache, reference, &limits(reference, *insecure))?,
            Place::Local { dir, tag, reset, .. } => {
                let here = |blob: &Descriptor| layout::has(dir, blob);
                fetch_missing(store, &cache, cache.elsewhere.iter().filter(|(blob, _)| !here(blob)).map(|(blob, _)| blob.clone()).collect())?;
                layout::write(store, &cache.packed, dir, tag, *reset)?;
            }
            Place::Inline => {}
        }
        let bytes = cache.packed.layers.iter().map(Descriptor::size).sum();
        note(format!("wrote the build cache {}: {}, {}", to.place.name(), counted(cache.records, "step"), size(bytes)));
        Ok(())
    }
}

impl Place {
    /// What people call it.
    fn name(&self) -> String {
        match self {
            Place::Registry { reference, .. } => familiar(reference),
            Place::Local { dir, tag, .. } if tag == parse::TAG => dir.display().to_string(),
            Place::Local { dir, tag, .. } => format!("{}:{tag}", dir.display()),
            Place::Inline => "of the image".to_owned(),
        }
    }
}

fn limits(reference: &str, insecure: bool) -> PullOptions {
    let host = reference.split('/').next().unwrap_or_default().to_owned();
    PullOptions { insecure_hosts: if insecure { vec![host] } else { Vec::new() }, ..PullOptions::default() }
}

/// Reads a cache's documents; no layer is fetched.
fn import(from: &CacheFrom, store: &Store) -> Result<ImportedCache, Failure> {
    let name = from.place.name();
    let mut cache = match &from.place {
        Place::Registry { reference, insecure } => {
            let limits = limits(reference, *insecure);
            let documents = interrupt::wait_or("the build was given up while it read a build cache", async {
                Ok(strake_registry::documents(reference, &Platform::host(), store, &limits).await?)
            })?;
            ImportedCache::read(&name, &documents.manifest, &documents.config, Arc::new(Repository { reference: reference.clone(), limits }))?
        }
        Place::Local { dir, tag, digest, .. } => {
            let (manifest, config) = layout::read(dir, tag, digest.as_deref())?;
            ImportedCache::read(&name, &manifest, &config, Arc::new(layout::Layout { dir: dir.clone() }))?
        }
        Place::Inline => return Err(Failure::text("an inline cache is read from its image")),
    };
    cache.use_mounts = from.mounts.clone();
    Ok(cache)
}

/// A repository that has a cache's blobs.
#[derive(Debug)]
struct Repository {
    reference: String,
    limits: PullOptions,
}

impl BlobSource for Repository {
    fn fetch(&self, blob: &Descriptor, store: &Store) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let fetched = interrupt::wait_or("", async { Ok(strake_registry::fetch_blob(&self.reference, blob, store, &self.limits).await?) });
        fetched.map_err(|failure| failure.to_string().into())
    }
}

fn push(store: &Store, cache: &PackedCache, reference: &str, limits: &PullOptions) -> Result<(), Failure> {
    let words = "the build cache was not written; the image is there";
    let unfetched: Vec<Descriptor> = cache.elsewhere.iter().map(|(blob, _)| blob.clone()).collect();
    if !unfetched.is_empty() {
        // Mostly the cache goes back to where it came from, which has them.
        let absent = interrupt::wait_or(words, async { Ok(strake_registry::absent(reference, &unfetched, store, limits).await?) })?;
        fetch_missing(store, cache, absent)?;
    }
    let options = PushOptions { limits: limits.clone(), ..PushOptions::default() };
    interrupt::wait_or(words, async { Ok(strake_registry::push_packed(&cache.packed, reference, store, &|_| {}, &options).await?) })?;
    Ok(())
}

/// Fetches those of a cache's blobs that were never needed here, but are where it goes.
fn fetch_missing(store: &Store, cache: &PackedCache, wanted: Vec<Descriptor>) -> Result<(), Failure> {
    for blob in wanted {
        let digest = digest_of(&blob)?;
        let source = cache.elsewhere.iter().find(|(known, _)| known.digest() == blob.digest()).map(|(_, source)| source);
        let Some(source) = source.filter(|_| !store.has(&digest)) else { continue };
        source.fetch(&blob, store).map_err(|error| Failure::text(error.to_string()))?;
    }
    Ok(())
}
