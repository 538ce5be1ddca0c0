//! The runtime over gRPC: what [`crate::http`] answers, in the messages of `proto/`. It refuses streams and compressed
//! messages.
//!
//! - [`framing`]: a message in, a message out, errors as statuses.
//! - [`service`]: the methods of the Open Inference Protocol, behind the same credentials and limits as HTTP.
//! - [`probes`]: those that need no credential, as their addresses of HTTP need none.
//!
//! To add a method: its messages in `proto/`, a line in [`METHODS`], its handler in [`service`].

mod framing;
mod probes;
mod service;
mod tensors;
#[cfg(test)]
mod tests;

pub use framing::translate;
pub use probes::probes;
pub use service::routes;

/// Messages of the Open Inference Protocol, made from `proto/inference.proto`.
#[expect(
    unreachable_pub,
    clippy::enum_variant_names,
    reason = "they are made from the files of the protocol"
)]
mod inference {
    include!("../../proto/inference.rs");
}

/// Messages of the health protocol, made from `proto/health.proto`.
#[expect(unreachable_pub, reason = "they are made from the files of the protocol")]
mod health {
    include!("../../proto/grpc.health.v1.rs");
}

/// Every method that is answered, by its address.
const METHODS: [&str; 7] = [
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/inference.GRPCInferenceService/ServerMetadata",
    "/inference.GRPCInferenceService/ModelReady",
    "/inference.GRPCInferenceService/ModelMetadata",
    "/inference.GRPCInferenceService/ModelInfer",
];
