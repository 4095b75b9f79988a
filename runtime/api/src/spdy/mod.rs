//! SPDY/3.1: what kubectl's port-forward speaks, over a connection of its own or inside a websocket. No windows are kept: its peers keep none.

mod frame;
mod headers;

pub(crate) use frame::{Frame, FrameReader, FrameWriter};
