//! Which node a pod is placed on, decided.
//!
//! A [`ClusterView`] holds every node with what is taken of it; it is kept up to date one node and one pod at a time, so that
//! placing a pod costs one pass over the nodes and never a pass over the pods. [`place`] runs the filters of a table over the
//! nodes and the scores of another over those that are left. A pod that fits nowhere gets an [`Unschedulable`] that says why,
//! node by node and in the one line people know from `kubectl describe`.

mod amounts;
mod cluster;
mod filters;
mod labels;
mod neighbours;
mod place;
mod scores;
mod wanted;

pub use amounts::Amounts;
pub use cluster::{ClusterView, NodeFit};
pub use filters::{Filter, Rejection, filters};
pub use place::{Placement, Unschedulable, place};
pub use scores::{Score, scores};
pub use wanted::Wanted;
