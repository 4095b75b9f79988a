//! The words of the OCI image specification that every part of strake shares: digests, platforms, image configurations.
//!
//! Descriptors, manifests and indexes are `oci-spec`'s; the configuration is ours, because Docker's extra fields (Healthcheck, OnBuild, Shell,
//! ArgsEscaped) must survive a round trip and the key order of what BuildKit writes is kept.

mod config;
mod digest;
mod platform;

pub use config::{ContainerConfig, Empty, Healthcheck, HistoryEntry, ImageConfig, RootFs};
pub use digest::{Digest, DigestError, Hasher};
pub use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
pub use platform::{Platform, PlatformError, platform_of};
