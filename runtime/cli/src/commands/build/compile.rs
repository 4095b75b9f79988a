//! From a Dockerfile to a plan: base images are found, files of elsewhere fetched, every platform lowered into the one graph.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use strake_oci::Platform;
use strake_plan::BuildPlan;
use strake_source::Diagnostic;
use strake_stages::{BaseImage, BaseReference, Request};
use strake_store::{Store, StoreError};

use super::context::layout;
use super::remote::Fetcher;
use super::{Dockerfile, Sourcing};
use crate::args::Build;
use crate::commands::images::familiar;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, note};

/// The plan, unless there is an error among the findings. It has an image for each platform, in their order.
pub fn compile(store: &Store, dockerfile: &Dockerfile, args: &Build, fetcher: &Fetcher<'_>) -> Result<(Option<BuildPlan>, Vec<Diagnostic>), Failure> {
    compile_as(store, &dockerfile.request, dockerfile, args, fetcher)
}

/// The same for a request that is not quite the Dockerfile's.
pub fn compile_as(
    store: &Store,
    request: &Request,
    dockerfile: &Dockerfile,
    args: &Build,
    fetcher: &Fetcher<'_>,
) -> Result<(Option<BuildPlan>, Vec<Diagnostic>), Failure> {
    let mut plan = BuildPlan::default();
    let (images, findings) = compile_into(store, request, dockerfile, args, fetcher, &mut plan)?;
    Ok((images.map(|_| plan), findings))
}

/// Adds the steps and images of all platforms to a plan; gives the images' places in it, in the order of the platforms. Steps that platforms share are in it once.
/// `None` when there is an error among the findings.
pub fn compile_into(
    store: &Store,
    request: &Request,
    dockerfile: &Dockerfile,
    args: &Build,
    fetcher: &Fetcher<'_>,
    plan: &mut BuildPlan,
) -> Result<(Option<Vec<usize>>, Vec<Diagnostic>), Failure> {
    let mut findings = dockerfile.diagnostics.clone();
    if findings.iter().any(Diagnostic::is_error) {
        let more = strake_stages::errors_beside(request);
        findings.extend(more.into_iter().filter(|finding| !dockerfile.diagnostics.contains(finding)));
        findings.sort_by_key(|finding| finding.span.map(|span| span.start));
        return Ok((None, findings));
    }
    let requests: Vec<Request> = dockerfile.platforms.iter().map(|platform| for_platform(request, platform, dockerfile)).collect();
    let bases = all_bases(store, &requests, dockerfile, args)?;
    let mut images = Vec::new();
    for (mut request, bases) in requests.into_iter().zip(bases) {
        request.remotes = fetcher.all(&strake_stages::remote_sources_in(&request, &bases, plan))?;
        let (image, more) = strake_stages::lower_into(&request, &bases, plan);
        images.extend(image);
        // Platforms mostly say the same.
        findings.extend(more.into_iter().filter(|finding| !findings.contains(finding)).collect::<Vec<_>>());
    }
    let good = !findings.iter().any(Diagnostic::is_error);
    Ok((good.then_some(images), findings))
}

/// The request for one of the platforms.
fn for_platform(request: &Request, platform: &Platform, dockerfile: &Dockerfile) -> Request {
    let mut own = Request { platform: platform.clone(), ..request.clone() };
    if dockerfile.wishes.composes(&dockerfile.platforms) {
        // The whole carries the names.
        own.tags = Vec::new();
    }
    own
}

/// The base images of each request by their keys; each is looked for once. Triggers of those that were found may name others.
fn all_bases(store: &Store, requests: &[Request], dockerfile: &Dockerfile, args: &Build) -> Result<Vec<BTreeMap<String, BaseImage>>, Failure> {
    let unique = |base: &BaseReference| format!("{} {}", base.reference, base.platform);
    let of_context = if args.context.is_dir() { args.context.as_path() } else { Path::new(".") };
    let place = args.lock_dir.as_deref().unwrap_or(of_context);
    let sourcing = Sourcing::new(args.pull, args.offline, args.locked, place)?;
    let (mut found, mut asked): (BTreeMap<String, BaseImage>, BTreeSet<String>) = Default::default();
    let mut own: Vec<BTreeMap<String, BaseImage>> = vec![BTreeMap::new(); requests.len()];
    loop {
        let each: Vec<Vec<BaseReference>> = requests.iter().zip(&own).map(|(request, own)| strake_stages::base_references_with(request, own).0).collect();
        let mut needed = Vec::new();
        for base in each.iter().flatten().filter(|base| asked.insert(unique(base))) {
            match dockerfile.layouts.get(&base.reference) {
                Some(place) => drop(found.insert(unique(base), layout(store, place, &base.reference, &base.platform)?)),
                None => needed.push(BaseReference { key: unique(base), ..base.clone() }),
            }
        }
        found.extend(bases(store, &needed, &sourcing)?);
        let of = |list: &Vec<BaseReference>| list.iter().filter_map(|base| Some((base.key.clone(), found.get(&unique(base))?.clone()))).collect();
        let before = std::mem::replace(&mut own, each.iter().map(of).collect());
        if before.iter().zip(&own).all(|(before, now)| before.len() == now.len()) {
            return Ok(own);
        }
    }
}

/// Whether a name stands for something that a platform can use.
fn is_here(store: &Store, name: &str, platform: &Platform) -> bool {
    match store.image_for(name, platform) {
        Ok(_) => true,
        Err(error @ StoreError::PlatformMissing { .. }) => {
            tracing::debug!(%error, "looking for another platform's image");
            false
        }
        // What is wrong with it is said when it is used.
        Err(error) => !matches!(error, StoreError::ImageMissing { .. } | StoreError::BlobMissing { .. }),
    }
}

/// The base images that are needed: from the store, or pulled. One that is neither here nor to be had is left out, and the compiler says where it was named.
///
/// # Errors
/// Offline, all that are missing are named together; with a lock, one that it does not name, or that is to be had no more.
pub fn bases(store: &Store, needed: &[BaseReference], how: &Sourcing) -> Result<BTreeMap<String, BaseImage>, Failure> {
    let (mut bases, mut missing) = (BTreeMap::new(), Vec::new());
    for BaseReference { key, reference, platform, .. } in needed {
        let pinned = how.pinned(reference)?;
        let mut name = Sourcing::find(store, &pinned)?.filter(|name| is_here(store, name, platform));
        if how.offline && name.is_none() {
            missing.push(match Sourcing::find(store, &pinned)?.map(|name| store.image_for(&name, platform)) {
                Some(Err(StoreError::PlatformMissing { available, .. })) => {
                    let available: Vec<String> = available.iter().map(Platform::to_string).collect();
                    format!("{} for {platform} (there is {})", familiar(&pinned), available.join(", "))
                }
                _ if *platform == Platform::host() => familiar(&pinned),
                _ => format!("{} for {platform}", familiar(&pinned)),
            });
            continue;
        }
        if how.pull || name.is_none() {
            let pulled = interrupt::wait_or("the build was given up while it pulled a base; what has arrived is kept", async {
                Ok(strake_registry::pull(&pinned, platform, store, &|_| {}).await?)
            });
            match pulled {
                // What the registry has under the name may be a single image, whatever it is for.
                Ok(image) => name = Some(image.digest()?.to_string()),
                Err(failure) if failure.code() == interrupt::INTERRUPTED => return Err(failure),
                Err(failure) if how.lock.is_some() => return Err(how.locked_away(store, reference, &pinned, &failure)),
                Err(failure) => {
                    note(format!("{} cannot pull {reference}: {failure}", Paint::stderr().yellow("note:")));
                    // The compiler says that there is none; this, which there are.
                    if let Some(Err(error @ StoreError::PlatformMissing { .. })) = Sourcing::find(store, &pinned)?.map(|name| store.image_for(&name, platform))
                    {
                        note(format!("{} {error}", Paint::stderr().yellow("note:")));
                    }
                }
            }
        }
        if let Some(name) = name {
            let image = store.image_for(&name, platform).or_else(|_| store.image(&name))?;
            store.unpack(&image)?;
            let base = BaseImage { reference: reference.clone(), manifest: image.digest()?, config: image.config };
            bases.insert(key.clone(), base);
        }
    }
    if missing.is_empty() { Ok(bases) } else { Err(Failure::text(format!("--offline: not in the store: {}", missing.join(", ")))) }
}
