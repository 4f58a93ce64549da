//! Frames: what every lane carries, and how messages are put into them.

pub mod codec;
pub mod kind;
pub mod raw;

pub use crate::message::PROTOCOL;
