//! From a step's layers to an image in the store.

use strake_oci::{HistoryEntry, ImageConfig};
use strake_plan::Image;
use strake_store::{Layer, StoreError};

use crate::BuiltImage;
use crate::cache::image_records;
use crate::session::Session;

/// The comment of rows that stand for layers no instruction names.
const UNNAMED: &str = "strake";

/// Puts an image into the store under its tags.
pub(crate) fn assemble(session: &Session<'_>, image: &Image) -> Result<BuiltImage, StoreError> {
    let chain = session.chain(image.step);
    let layers = chain.map_or(Ok(Vec::new()), |chain| session.store.layers(&chain))?;
    let mut config = configuration(image, &layers, session.source_date_epoch());
    // A base may carry one of its own, which says nothing about these layers.
    config.inline_cache = session.options.inline_cache.is_in(image.step).then(|| image_records(session, image.step, layers.len()));
    let stored = session.store.put_image(&config, &layers)?;
    for tag in &image.tags {
        session.store.tag(tag, &stored.descriptor)?;
    }
    let manifest = stored.digest()?;
    Ok(BuiltImage { tags: image.tags.clone(), manifest, config_digest: stored.config_digest, config: stored.config, layers })
}

/// The configuration with everything that is only known now. New rows carry the build's fixed time, so that the same inputs give the same image.
fn configuration(image: &Image, layers: &[Layer], source_date_epoch: i64) -> ImageConfig {
    let now = timestamp(source_date_epoch);
    let mut config = image.config.clone();
    config.created = Some(now.clone());
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    config.history = image
        .history
        .iter()
        .map(|row| HistoryEntry {
            created: Some(row.created.clone().unwrap_or_else(|| now.clone())),
            created_by: row.created_by.clone(),
            author: String::new(),
            comment: row.comment.clone(),
            empty_layer: row.empty_layer,
        })
        .collect();
    // Each layer must have its row (OCI image specification, config.md, "history"); a base may have come with fewer.
    let named = config.history.iter().filter(|row| !row.empty_layer).count();
    for _ in named..layers.len() {
        config.history.push(HistoryEntry { created: Some(now.clone()), comment: UNNAMED.to_owned(), ..HistoryEntry::default() });
    }
    config
}

/// RFC 3339.
fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use strake_oci::Digest;
    use strake_plan::{Image, ImageHistory, Origin, StepIndex};
    use strake_store::Layer;

    /// dockerfile.md O2, O3.
    #[test]
    fn every_layer_has_its_row_and_the_base_keeps_its_times() {
        let row = |text: &str, created: Option<&str>, empty_layer| ImageHistory {
            created_by: text.to_owned(),
            comment: String::new(),
            created: created.map(str::to_owned),
            empty_layer,
        };
        let history = vec![row("base", Some("2020-01-01T00:00:00Z"), false), row("ENV a=b", None, true), row("RUN x", None, false)];
        let image = Image { tags: Vec::new(), step: StepIndex(0), config: Default::default(), history, origin: Origin::default() };
        let layer = |name: &str| Layer { diff_id: Digest::of(name.as_bytes()), chain_id: Digest::of(name.as_bytes()), parent: None, size_bytes: 0 };
        let layers: Vec<Layer> = ["one", "two", "three"].map(layer).into();
        let config = super::configuration(&image, &layers, 1_700_000_000);
        let times: Vec<&str> = config.history.iter().filter_map(|row| row.created.as_deref()).collect();
        let now = "2023-11-14T22:13:20Z";
        assert_eq!(times, ["2020-01-01T00:00:00Z", now, now, now]);
        assert_eq!(config.created.as_deref(), Some(now));
        assert_eq!(config.history.iter().filter(|row| !row.empty_layer).count(), layers.len(), "a row for the layer that nobody names");
        assert_eq!(config.rootfs.diff_ids.len(), 3);
    }

    #[test]
    fn times_are_written_as_registries_expect() {
        assert_eq!(super::timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::timestamp(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
