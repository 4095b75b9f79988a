//! Layers as one tree, by descriptor only: the store's detached mounts, never attached anywhere, so nothing can be left behind.

use std::path::{Path, PathBuf};

use strake_store::{Draft, Overlay, OverlayError, Store};

use super::Root;

/// Why layers could not be looked at as one tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The overlay could not be mounted.
    #[error("cannot overlay {layers} layers")]
    Mount { layers: usize, source: OverlayError },
    /// A directory could not be opened.
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: std::io::Error },
}

/// Layers for reading, the topmost first. None at all is an empty tree.
pub fn view(store: &Store, lowers: &[PathBuf]) -> Result<Root, ViewError> {
    let empty = store.root().join("empty");
    match lowers {
        [] => open(&empty),
        // overlayfs refuses a read-only mount of a single directory.
        [single] => mount(&[single.clone(), empty], None),
        lowers => mount(lowers, None),
    }
}

/// A draft for writing: what is changed goes to its upper directory.
pub fn edit(draft: &Draft) -> Result<Root, ViewError> {
    // With nothing below there is nothing to overlay.
    if draft.stands_alone() { open(&draft.upper) } else { mount(&draft.lowers, Some((&draft.upper, &draft.work))) }
}

fn open(path: &Path) -> Result<Root, ViewError> {
    Root::open(path).map_err(|source| ViewError::Open { path: path.to_owned(), source })
}

fn mount(lowers: &[PathBuf], writable: Option<(&Path, &Path)>) -> Result<Root, ViewError> {
    // The store syncs what is committed; a mount that is not volatile would sync the whole file system below when it is closed.
    let mounted = Overlay { lowers, writable, volatile: true }.mount_detached();
    mounted.map(Root::from_fd).map_err(|source| ViewError::Mount { layers: lowers.len(), source })
}
