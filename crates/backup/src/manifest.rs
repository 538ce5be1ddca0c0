//! The manifest: everything that belongs to one backup, under one hash.

use std::collections::BTreeMap;

use kernel::{Error, Result, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Part, corrupted};

/// The version of the layout. A vault of another one is refused.
const FORMAT: u32 = 1;

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the layout.
    pub format: u32,
    /// 1 for the first.
    pub sequence: u64,
    /// Everything that was acknowledged before is in it.
    pub taken_at: Timestamp,
    /// When the end of the log was looked up, after the records.
    pub log_at: Timestamp,
    /// The release that made it.
    pub release: String,
    /// The backup before.
    pub previous: Option<Previous>,
    /// The log.
    pub topics: Vec<TopicPart>,
    /// The records, in the order of tenant, table and key.
    pub records: Vec<RecordsPart>,
    /// The objects, in the order of tenant and path.
    pub objects: Vec<ObjectPart>,
    /// The views' checkpoints, where the log does not begin with its first event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<ViewPart>,
    /// Whether the vault has tables beside it that are kept once.
    #[serde(default)]
    pub kept_once: bool,
}

/// The backup before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its number.
    pub sequence: u64,
    /// The hash that its manifest begins with.
    pub blake3: String,
}

/// A topic of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPart {
    /// Its name.
    pub topic: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionPart>,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionPart {
    /// One past the last event.
    pub next: u64,
    /// The last event, to know the log by.
    pub last: Option<Mark>,
    /// The events, oldest first.
    pub segments: Vec<Segment>,
}

/// What tells an event from every other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its source.
    pub source: String,
    /// Its id.
    pub id: String,
    /// Its time.
    pub time: Timestamp,
}

/// Events that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The first one's offset.
    pub first: u64,
    /// One past the last one's offset.
    pub next: u64,
    /// Whether it is as large as a segment gets; one that is not is sent anew by the next backup.
    pub is_full: bool,
    /// The bytes.
    pub part: Part,
}

/// Records of one table of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsPart {
    /// Whose they are.
    pub tenant: TenantId,
    /// The table.
    pub table: String,
    /// How many.
    pub count: u64,
    /// The bytes.
    pub part: Part,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectPart {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its path.
    pub path: String,
    /// The bytes.
    pub part: Part,
}

/// The checkpoint of a view: all that is left of events that retention took before any backup had them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewPart {
    /// The topic that it is a fold of.
    pub topic: String,
    /// Its path among the server's own objects.
    pub path: String,
    /// By partition, the first event that is not in it.
    pub offsets: BTreeMap<u32, u64>,
    /// The bytes.
    pub part: Part,
}

/// What a part holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holds<'a> {
    /// Events of a partition of a topic.
    Events(&'a str, u32, &'a Segment),
    /// Records.
    Records(&'a RecordsPart),
    /// An object.
    Object(&'a ObjectPart),
    /// The checkpoint of a view.
    View(&'a ViewPart),
}

impl Holds<'_> {
    /// What it is, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Events(topic, partition, segment) => {
                format!("events {} to {} of `{topic}`, partition {partition}", segment.first, segment.next)
            }
            Self::Records(records) => format!("records of `{}`, tenant {}", records.table, records.tenant),
            Self::View(view) => format!("checkpoint `{}`", view.path),
            Self::Object(object) => format!("object `{}` of tenant {}", object.path, object.tenant),
        }
    }
}

impl PartitionPart {
    /// The first event that it has, or would have.
    pub(crate) fn first(&self) -> u64 {
        self.segments.first().map_or(self.next, |segment| segment.first)
    }
}

impl Manifest {
    pub(crate) const FORMAT: u32 = FORMAT;

    /// The partitions of every topic.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&str, u32, &PartitionPart)> {
        self.topics.iter().flat_map(|topic| {
            (0_u32..).zip(&topic.partitions).map(move |(number, part)| (topic.topic.as_str(), number, part))
        })
    }

    /// Every part and what it holds.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Part, Holds<'_>)> {
        let events = self
            .segments()
            .map(|(topic, partition, segment)| (&segment.part, Holds::Events(topic, partition, segment)));
        let records = self.records.iter().map(|records| (&records.part, Holds::Records(records)));
        let objects = self.objects.iter().map(|object| (&object.part, Holds::Object(object)));
        let views = self.views.iter().map(|view| (&view.part, Holds::View(view)));
        events.chain(records).chain(objects).chain(views)
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = (&str, u32, &Segment)> {
        self.topics.iter().flat_map(|topic| {
            let numbered = (0_u32..).zip(&topic.partitions);
            numbered.flat_map(move |(partition, part)| {
                part.segments.iter().map(move |segment| (topic.topic.as_str(), partition, segment))
            })
        })
    }

    /// How many events it has.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.segments().map(|(_, _, segment)| segment.next - segment.first).sum()
    }

    /// How many records it has.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        self.records.iter().map(|records| records.count).sum()
    }

    /// How much it takes in the vault, counting what it shares with others.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts().map(|(part, _)| part.bytes).sum()
    }

    /// Whether it says the same of the data.
    pub(crate) fn is_same_data(&self, other: &Self) -> bool {
        (&self.topics, &self.records) == (&other.topics, &other.records)
            && (&self.objects, &self.views) == (&other.objects, &other.views)
    }

    /// The stored form, and its hash.
    pub(crate) fn seal(&self) -> Result<(Vec<u8>, String)> {
        let json = serde_json::to_vec(self).map_err(Error::internal)?;
        let hash = blake3::hash(&json).to_hex().to_string();
        let mut sealed = hash.clone().into_bytes();
        sealed.push(b'\n');
        sealed.extend_from_slice(&json);
        Ok((sealed, hash))
    }

    /// Reads what [`Manifest::seal`] wrote, and checks that it fits together.
    pub(crate) fn open(sealed: &[u8]) -> Result<(Self, String)> {
        let short = || corrupted("it is cut short");
        let (hash, rest) = sealed.split_at_checked(blake3::OUT_LEN * 2).ok_or_else(short)?;
        let json = rest.strip_prefix(b"\n").ok_or_else(short)?;
        let found = blake3::hash(json).to_hex().to_string();
        if found.as_bytes() != hash {
            return Err(corrupted("its checksum is wrong"));
        }
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|cause| corrupted("it cannot be read by this release").with_source(cause))?;
        if manifest.format != FORMAT {
            let message = format!("it has format {}, and this release reads {FORMAT}", manifest.format);
            return Err(corrupted(message));
        }
        manifest.check()?;
        Ok((manifest, found))
    }

    fn check(&self) -> Result<()> {
        for topic in &self.topics {
            for partition in &topic.partitions {
                let mut next = partition.first();
                for segment in &partition.segments {
                    if segment.first != next || segment.next <= segment.first {
                        return Err(corrupted(format!("the segments of `{}` have a gap", topic.topic)));
                    }
                    next = segment.next;
                }
                if next != partition.next {
                    return Err(corrupted(format!("the last events of `{}` are missing", topic.topic)));
                }
            }
        }
        Ok(())
    }
}
