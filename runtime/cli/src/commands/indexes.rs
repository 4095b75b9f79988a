//! Images with what is around them: `strake image inspect` of an index, `strake image attestations`.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};
use strake_oci::{Descriptor, Digest, Platform, platform_of};
use strake_store::{Image, Index, Store, digest_of, is_attestation};

use crate::args::Format;
use crate::commands::images::named;
use crate::failure::Failure;
use crate::output::{data, say, table};

/// strake image inspect
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake image inspect web | jq .config\n  strake image inspect web --platform linux/arm64")]
pub struct InspectArgs {
    pub reference: String,
    /// Of an index, show only this platform's image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
}

/// strake image attestations
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  strake image attestations web
  strake image attestations web -o json | jq '.[] | select(.type == \"provenance\").statement.predicate'
  strake image attestations web --type sbom --platform linux/arm64 -o json")]
pub struct AttestationsArgs {
    pub reference: String,
    /// Only those about this platform's image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = ["provenance", "sbom"])]
    pub kind: Option<String>,
    /// How to print them: text lists them, data has the statements
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// Shows the manifest and configuration of an image, or of all images of an index.
pub fn inspect(root: &Path, args: &InspectArgs) -> Result<(), Failure> {
    let (store, name) = (Store::open(root)?, named(&args.reference)?);
    let index = match &args.platform {
        None => store.index(&name)?,
        Some(_) => None,
    };
    let value = match (index, &args.platform) {
        (Some(index), _) => of_index(&store, &index)?,
        (None, Some(platform)) => of_image(&store.image_for(&name, platform)?),
        (None, None) => of_image(&store.image(&name)?),
    };
    say(data(&value, Format::Json));
    Ok(())
}

fn of_image(image: &Image) -> Value {
    json!({"digest": image.descriptor.digest().to_string(), "id": image.config_digest, "manifest": image.manifest, "config": image.config})
}

/// Its images with their platforms; attestations by what they are about.
fn of_index(store: &Store, index: &Index) -> Result<Value, Failure> {
    let mut images = Vec::new();
    for child in index.images() {
        let digest = digest_of(child)?;
        let mut value = match store.manifest_at(child) {
            Ok(image) => of_image(&image),
            Err(strake_store::StoreError::BlobMissing { .. }) => json!({"digest": digest, "missing": true}),
            Err(error) => return Err(error.into()),
        };
        value["platform"] = platform_of(child).map_or_else(|| "unknown".to_owned(), |platform| platform.to_string()).into();
        let about: Vec<String> = index.attestations(&digest).map(|attestation| attestation.digest().to_string()).collect();
        if !about.is_empty() {
            value["attestations"] = about.into();
        }
        if let Some(annotations) = child.annotations().as_ref().filter(|annotations| !annotations.is_empty()) {
            value["annotations"] = sorted(annotations);
        }
        images.push(value);
    }
    let mut value = json!({
        "digest": index.descriptor.digest().to_string(),
        "mediaType": index.descriptor.media_type(),
        "platforms": index.platforms().iter().map(Platform::to_string).collect::<Vec<_>>(),
        "images": images,
    });
    if !index.annotations.is_empty() {
        value["annotations"] = json!(index.annotations);
    }
    Ok(value)
}

fn sorted(annotations: &std::collections::HashMap<String, String>) -> Value {
    let sorted: std::collections::BTreeMap<_, _> = annotations.iter().collect();
    json!(sorted)
}

/// Lists the statements about an image, or shows them.
pub fn attestations(root: &Path, args: &AttestationsArgs) -> Result<(), Failure> {
    let (store, name) = (Store::open(root)?, named(&args.reference)?);
    let index = store.index(&name)?;
    let mut found = Vec::new();
    for child in index.iter().flat_map(|index| index.children.iter().filter(|child| is_attestation(child))) {
        let (about, platform) = index.as_ref().and_then(|index| subject(index, child)).unwrap_or_default();
        if args.platform.as_ref().is_some_and(|wanted| wanted.to_string() != platform) {
            continue;
        }
        for (kind, statement) in store.statements(child)? {
            let word = word_of(&kind);
            if args.kind.as_deref().is_none_or(|wanted| wanted == word) {
                found.push((platform.clone(), word, kind, about.clone(), statement));
            }
        }
    }
    if args.output != Format::Text {
        let rows = found.into_iter().map(|(platform, word, kind, about, statement)| {
            let statement: Value = serde_json::from_slice(&statement)?;
            Ok(json!({"platform": platform, "type": word, "predicateType": kind, "manifest": about, "statement": statement}))
        });
        say(data(&rows.collect::<Result<Vec<Value>, serde_json::Error>>()?, args.output));
        return Ok(());
    }
    if found.is_empty() {
        return Err(Failure::text(format!("{} has no attestations: they are made by `strake build --provenance --sbom`", args.reference)));
    }
    let rows: Vec<Vec<String>> = found
        .into_iter()
        .map(|(platform, word, kind, about, statement)| vec![platform, word.to_owned(), kind, short(&about), crate::output::size(statement.len() as u64)])
        .collect();
    say(table(&["PLATFORM", "TYPE", "PREDICATE", "ABOUT", "SIZE"], &rows));
    Ok(())
}

/// What an attestation is about: the manifest, and its platform.
fn subject(index: &Index, attestation: &Descriptor) -> Option<(String, String)> {
    let about = attestation.annotations().as_ref()?.get(strake_store::REFERENCE_DIGEST)?;
    let child = index.images().find(|child| child.digest().to_string() == *about)?;
    Some((about.clone(), platform_of(child).map_or_else(|| "unknown".to_owned(), |platform| platform.to_string())))
}

fn word_of(kind: &str) -> &'static str {
    match kind {
        kind if kind.starts_with("https://slsa.dev/provenance/") => "provenance",
        kind if kind.starts_with("https://spdx.dev/Document") || kind.starts_with("https://cyclonedx.org/bom") => "sbom",
        _ => "other",
    }
}

fn short(digest: &str) -> String {
    digest.parse::<Digest>().map_or_else(|_| digest.to_owned(), |digest| digest.short())
}
