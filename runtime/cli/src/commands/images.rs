//! strake images, strake image

use std::path::Path;

use serde_json::json;
use strake_oci::{ContainerConfig, Digest, ImageConfig, Platform};
use strake_store::{CommitOptions, Compression, Destination, ImageRecord, Store, is_image_archive};

use crate::args::{Format, ImageVerb, Images};
use crate::commands::serve::need_root;
use crate::commands::{indexes, space, transfer};
use crate::failure::Failure;
use crate::output::{age, data, note, say, size, table};

/// The PATH of a base image made from a bare root file system.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The full text of a reference.
pub fn full(reference: &str) -> Result<String, Failure> {
    Ok(strake_words::Reference::parse(reference)?.with_default_tag().to_string())
}

/// How people write it: without what is implied.
pub fn familiar(reference: &str) -> String {
    strake_words::Reference::parse(reference).map_or_else(|_| reference.to_owned(), |parsed| parsed.familiar())
}

/// Lists the store's images.
pub fn list(root: &Path, args: &Images) -> Result<(), Failure> {
    let mut records = Store::open(root)?.images()?;
    records.sort_by(|a, b| a.reference.cmp(&b.reference));
    if args.output != Format::Text {
        let rows: Vec<_> = records.iter().map(row_of_data).collect();
        say(data(&rows, args.output));
        return Ok(());
    }
    let several = records.iter().any(|record| record.is_index);
    let rows: Vec<Vec<String>> = records.iter().map(|record| row(record, several)).collect();
    let titles = ["IMAGE", "ID", "CREATED", "SIZE", "PLATFORMS"];
    say(table(&titles[..if several { 5 } else { 4 }], &rows));
    Ok(())
}

fn row(record: &ImageRecord, platforms: bool) -> Vec<String> {
    let mut row = vec![familiar(&record.reference), id(record).short(), created(record), size(record.size_bytes)];
    if platforms {
        row.push(shown(record).join(", "));
    }
    row
}

/// What people call the image's id: the digest of the index, or of the configuration.
fn id(record: &ImageRecord) -> Digest {
    let index = || record.descriptor.digest().to_string().parse().ok();
    if record.is_index { index().unwrap_or(record.config_digest) } else { record.config_digest }
}

fn shown(record: &ImageRecord) -> Vec<String> {
    record.platforms.iter().map(Platform::to_string).collect()
}

/// `5m ago`; a clamped time says nothing, so nothing is said.
fn created(record: &ImageRecord) -> String {
    let time = record.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match time.filter(|time| time.as_second() > 0) {
        Some(time) => format!("{} ago", age(jiff::Timestamp::now().as_second() - time.as_second())),
        None => "reproducible".to_owned(),
    }
}

fn row_of_data(record: &ImageRecord) -> serde_json::Value {
    json!({"reference": record.reference, "manifest": record.descriptor.digest().to_string(), "id": id(record), "created": record.created, "sizeBytes": record.size_bytes, "platforms": shown(record)})
}

/// Everything else about images.
pub fn run(root: &Path, verb: ImageVerb) -> Result<(), Failure> {
    match verb {
        ImageVerb::Import { path, reference, platform } => import(root, &path, reference.as_deref(), platform),
        ImageVerb::Export { reference, dest, format } => export(root, &reference, &dest, &format),
        ImageVerb::Pull(args) => transfer::pull(root, &args),
        ImageVerb::Lock(args) => crate::commands::lock::lock(root, &args),
        ImageVerb::Push { image, reference, compression } => {
            transfer::push(root, &image, reference.as_deref(), compression.as_deref().and_then(transfer::compression))
        }
        ImageVerb::Save { references, output } => transfer::save(root, &references, output.as_deref()),
        ImageVerb::Load { input } => transfer::load(root, transfer::or_stdin(input).as_deref()),
        ImageVerb::History { reference, no_trunc, output } => transfer::history(root, &reference, no_trunc, output),
        ImageVerb::Tag { image, reference } => {
            let store = Store::open(root)?;
            store.tag(&full(&reference)?, &store.named(&named(&image)?)?)?;
            Ok(())
        }
        ImageVerb::Rm { references } => remove(root, &references),
        ImageVerb::Inspect(args) => indexes::inspect(root, &args),
        ImageVerb::Attestations(args) => indexes::attestations(root, &args),
        ImageVerb::Prune(args) => space::prune(root, &args, space::Scope::Images),
        ImageVerb::Du(args) => space::usage(root, &args),
        ImageVerb::Verify => verify(root),
    }
}

/// A reference, or a digest as it is.
pub fn named(text: &str) -> Result<String, Failure> {
    if text.parse::<Digest>().is_ok() { Ok(text.to_owned()) } else { full(text) }
}

fn import(root: &Path, path: &Path, reference: Option<&str>, platform: Option<Platform>) -> Result<(), Failure> {
    need_root("strake image import")?;
    std::fs::metadata(path).map_err(|source| Failure::read(path, source))?;
    let store = Store::open(root)?;
    if is_image_archive(path) {
        let imported = store.import_archive(path)?;
        if let (Some(reference), [only]) = (reference, &imported[..]) {
            store.tag(&full(reference)?, only.descriptor())?;
            say(format!("{reference}  {}", only.image.config_digest.short()));
            return Ok(());
        }
        if reference.is_some() {
            return Err(Failure::text(format!("{} holds {} images: leave the name out", path.display(), imported.len())));
        }
        for one in &imported {
            say(format!("{}  {}", one.reference.as_deref().map_or_else(|| "(no name)".to_owned(), familiar), one.image.config_digest.short()));
        }
        return Ok(());
    }
    let Some(reference) = reference else {
        return Err(Failure::text(format!(
            "{} is a root file system: say how the image is to be called, as in `strake image import {0} debian:bookworm`",
            path.display()
        )));
    };
    let (name, wanted) = (full(reference)?, platform.clone().unwrap_or_else(Platform::host));
    let config = ImageConfig {
        architecture: wanted.architecture.clone(),
        variant: wanted.variant.clone(),
        os: wanted.os.clone(),
        config: ContainerConfig {
            env: vec![PATH.to_owned()],
            cmd: Some(vec!["/bin/sh".to_owned()]),
            working_dir: "/".to_owned(),
            ..ContainerConfig::default()
        },
        ..ImageConfig::default()
    };
    let before = store.resolve(&name)?.filter(|_| platform.is_some());
    let image = store.import_rootfs(path, &name, &config, CommitOptions { mtime: 0 })?;
    if let Some(before) = before {
        store.tag(&name, &before)?;
        store.tag_beside(&name, &image, &wanted)?;
    }
    say(format!("{reference}  {}  {}", image.config_digest.short(), size(image.size_bytes())));
    Ok(())
}

fn export(root: &Path, reference: &str, dest: &Path, format: &str) -> Result<(), Failure> {
    let store = Store::open(root)?;
    let name = named(reference)?;
    if format == "docker" {
        store.export_docker(&name, dest)?;
    } else {
        let tar = dest.extension().is_some_and(|extension| extension == "tar");
        let destination = if tar { Destination::Archive(dest.to_owned()) } else { Destination::Directory(dest.to_owned()) };
        store.export_oci(&name, &destination, Compression::Gzip)?;
    }
    note(format!("wrote {}", dest.display()));
    Ok(())
}

fn remove(root: &Path, references: &[String]) -> Result<(), Failure> {
    if references.is_empty() {
        return Err(Failure::text("which image? `strake images` lists them").with_code(2));
    }
    let store = Store::open(root)?;
    for reference in references {
        if !store.remove_image(&full(reference)?)? {
            return Err(Failure::text(format!("there is no image {reference} in the store")));
        }
        say(format!("{reference} removed"));
    }
    Ok(())
}

fn verify(root: &Path) -> Result<(), Failure> {
    let problems = Store::open(root)?.verify()?;
    if problems.is_empty() {
        say("every blob and layer is what its name says");
        return Ok(());
    }
    problems.iter().for_each(say);
    Err(Failure::text(format!("{} problems in the store", problems.len())))
}
