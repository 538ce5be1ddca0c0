//! The endpoints that belong to no domain, one file each.

pub mod audit;
pub mod cloud_event;
pub mod dead_letters;
pub mod events;
pub mod health;
pub mod keys;
