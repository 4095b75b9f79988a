//! Real clients against a running strake: kubectl on the API, skopeo and umoci on images.

mod images;
mod jobs;
mod kubectl;
mod registry;
