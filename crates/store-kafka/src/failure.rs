//! What librdkafka and the brokers say, as what the caller should do about it.

use kernel::{Error, codes};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::config::invalid;
use crate::connect::Health;

/// A client could not be made. The value of the property is left out: it may be a password.
pub(crate) fn of_client(error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, description, property, _) => {
            invalid("kafka", format!("`{property}` is not acceptable: {description}"))
        }
        other => invalid("kafka", format!("the client cannot be made: {other}")),
    }
}

/// Whether the brokers say that there is no such topic or partition.
pub(crate) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
}

/// The error for a topic that was there and no longer is.
pub(crate) fn vanished(name: &str) -> Error {
    let message = format!(
        "topic `{name}` was there and no longer is: make it again, or begin a new namespace for what read it; it is not \
         taken for an empty one"
    );
    Error::new(codes::UNAVAILABLE, message)
}

/// What failed while `doing` something.
pub(crate) fn of(doing: &str, error: &KafkaError, health: &Health) -> Error {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        _ => error.rdkafka_error_code(),
    };
    let refused =
        |code, reason: &str| Error::new(code, format!("{doing}: {reason}")).with_source(error.clone());
    match code {
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
            refused(codes::TOO_LARGE, "larger than the topic takes; raise its max.message.bytes")
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed,
        ) => refused(codes::PERMISSION_DENIED, "the brokers do not allow it; mend their access lists"),
        Some(Code::InvalidTopic | Code::PolicyViolation | Code::InvalidPartitions) => {
            refused(codes::VALIDATION_ERROR, "the brokers refuse it")
        }
        // A broker may be away; and some brokers know no usual number.
        Some(Code::InvalidReplicationFactor) => refused(
            codes::UNAVAILABLE,
            "the brokers do not keep so many replicas; set storage.kafka.replicas to at most as many as there are brokers",
        ),
        Some(Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend) => {
            refused(codes::UNAVAILABLE, "too few copies are in step")
        }
        _ => {
            let complaint = health.fails().map_or_else(String::new, |complaint| format!(" ({complaint})"));
            refused(codes::UNAVAILABLE, &format!("the brokers do not answer as they should{complaint}"))
        }
    }
}
