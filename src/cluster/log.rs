//! The log of purges in Redis: a stream of records, a hash that says which log it is, and a hash of the nodes that follow it.
//!
//! Each script looks first whether the log is what it was left as, and begins another one if not. The keys share a hash slot.

use super::members::Member;
use crate::purge::{Position, Received, Record, RecordId, Shared, Target};
use crate::remote::{Channel, Command, Patience, Redis, Reply, Script, Trouble};
use crate::telemetry::quiet::Quiet;
use std::time::Duration;

/// How long a node is waited for that was not heard of.
pub const GONE: Duration = Duration::from_secs(5);

/// How long Redis may take for a script, whatever `cache.redis.timeout` says: somebody may wait for the purge.
const LONGEST: Duration = Duration::from_secs(2);

/// Things that the records of the stream name, and one for each record, before the oldest go: twice as many as one purge may name, and
/// about 15 MB of Redis.
const MOST: usize = 250_000;

/// Records that are read at once, and bytes of what they name after which no more are.
const PAGE: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

/// A script that begins with what all of them share.
macro_rules! script {
    ($name:literal) => {
        Script::new(
            concat!("purges_", $name),
            concat!(include_str!("lua/log.lua"), include_str!(concat!("lua/", $name, ".lua"))),
        )
    };
}
static APPEND: Script = script!("append");
static READ: Script = script!("read");
static BEAT: Script = script!("beat");

/// The log.
#[derive(Debug)]
pub struct Log {
    redis: &'static Redis,
    /// Stream, head, nodes.
    keys: [String; 3],
    channel: String,
    /// Tells this process from others of the same name.
    instance: String,
    name: String,
    complaints: Quiet,
}

/// What became of records.
#[derive(Debug)]
pub struct Appended {
    /// The place of the last one.
    pub place: Shared,
    /// Who lives.
    pub nodes: Nodes,
}

/// Who says that it lives.
#[derive(Debug, Default)]
pub struct Nodes {
    /// The nodes that were heard of.
    pub members: Vec<Member>,
    /// For how long others may live that Redis does not know of: it was away, or has lost them, and they say so again.
    pub settling: Duration,
}

/// A part of the log.
#[derive(Debug)]
pub struct Page {
    /// Where the log ends.
    pub end: Shared,
    /// The latest record that was taken out for want of room.
    pub dropped: Position,
    /// The next ones, in order.
    pub records: Vec<Received>,
}

/// What nodes tell each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The log has come to this place. `wanted`: who has told it waits for the others.
    Purged {
        /// The place.
        place: Shared,
        /// Who has told it.
        instance: String,
        /// Whether it waits.
        wanted: bool,
    },
    /// A node has come to this place.
    Applied {
        /// The place.
        place: Shared,
        /// The node.
        instance: String,
    },
    /// A node has ended.
    Left(String),
}

impl Log {
    /// The log of the nodes that share a prefix.
    pub fn new(redis: &'static Redis, name: &str) -> Self {
        let key = |what: &str| format!("{}{{log}}{what}", redis.prefix());
        Log {
            redis,
            keys: [key("purges"), key("head"), key("nodes")],
            channel: Channel::Purges.name(redis.prefix()),
            instance: format!("{:016x}", fastrand::u64(..)),
            name: name.to_owned(),
            complaints: Quiet::default(),
        }
    }

    /// This process.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Adds records, and tells the nodes. `known`: how far the log was read here.
    ///
    /// # Errors
    /// Redis did not answer; they may be there all the same.
    pub async fn append(&self, records: &[Record], known: Shared, wait: bool) -> Result<Appended, Trouble> {
        Ok(self.add(records, known, wait, false).await?.0)
    }

    /// The same for records that may be there already: they are added if nothing is in the log that was not read here. Says whether
    /// that was so.
    ///
    /// # Errors
    /// As those of [`Log::append`].
    pub async fn append_again(&self, records: &[Record], known: Shared) -> Result<bool, Trouble> {
        Ok(self.add(records, known, false, true).await?.1)
    }

    async fn add(
        &self,
        records: &[Record],
        known: Shared,
        wait: bool,
        is_again: bool,
    ) -> Result<(Appended, bool), Trouble> {
        let (gone, most) = (GONE.as_millis().to_string(), MOST.to_string());
        let mut args: Vec<Vec<u8>> = vec![gone.into(), most.into()];
        let flag = |is_set: bool| if is_set { "1" } else { "0" };
        let words = [&self.channel, &self.instance, flag(wait), &self.name, flag(is_again)];
        args.extend(words.map(|text| text.as_bytes().to_vec()));
        for record in records {
            let soft = if record.soft { b"1" } else { b"0" };
            args.extend([record.id.to_bytes().to_vec(), soft.to_vec(), record.targets_to_bytes()]);
        }
        let [epoch, last, added, members, settling] = self.run(&APPEND, known, args).await?;
        let nodes = Nodes::of(members, &settling)?;
        Ok((Appended { place: place(&epoch, &last)?, nodes }, added.int() == Some(1)))
    }

    /// Reads what follows a place, or the beginning of a log that is not known.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn read(&self, known: Shared) -> Result<Page, Trouble> {
        let args = [PAGE, PAGE_BYTES].map(|number| number.to_string().into_bytes());
        let [epoch, last, dropped, records] = self.run(&READ, known, args.to_vec()).await?;
        let records =
            records.into_array().into_iter().map(|record| received(record, &self.complaints)).collect::<Option<_>>();
        Ok(Page {
            end: place(&epoch, &last)?,
            dropped: position(&dropped).ok_or_else(unexpected)?,
            records: records.ok_or_else(unexpected)?,
        })
    }

    /// Says that this node lives, and how far it has come; tells where the log ends, and who else lives.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn beat(&self, known: Shared) -> Result<(Shared, Nodes), Trouble> {
        let gone = GONE.as_millis().to_string().into_bytes();
        let args = vec![gone, self.instance.clone().into_bytes(), self.name.clone().into_bytes()];
        let [epoch, last, members, settling] = self.run(&BEAT, known, args).await?;
        Ok((place(&epoch, &last)?, Nodes::of(members, &settling)?))
    }

    /// Tells who waits that this node has come to a place.
    pub async fn acknowledge(&self, place: Shared) {
        let Shared { epoch, at } = place;
        self.publish(format!("applied {epoch} {at} {}", self.instance)).await;
    }

    /// Tells the others that this node ends.
    pub async fn leave(&self) {
        let [_, _, nodes] = &self.keys;
        let forget = Command::new("HDEL").arg(nodes).arg(&self.instance);
        if self.redis.call(&forget, Patience::Behind).await.is_ok() {
            self.publish(format!("left {}", self.instance)).await;
        }
    }

    async fn publish(&self, message: String) {
        let publish = Command::new("PUBLISH").arg(&self.channel).arg(message);
        if let Err(why) = self.redis.call(&publish, Patience::Behind).await {
            // The next heartbeat says the same.
            tracing::debug!(%why, "other nodes could not be told");
        }
    }

    async fn run<const N: usize>(
        &self,
        script: &Script,
        known: Shared,
        args: Vec<Vec<u8>>,
    ) -> Result<[Reply; N], Trouble> {
        let keys = self.keys.each_ref().map(|key| key.as_bytes());
        // Never 0, which is none.
        let fresh = fastrand::u64(1..).to_string();
        let (epoch, at) = (known.epoch.to_string(), known.at.to_string());
        let mut all: Vec<&[u8]> = vec![fresh.as_bytes(), epoch.as_bytes(), at.as_bytes()];
        all.extend(args.iter().map(Vec::as_slice));
        let reply = tokio::time::timeout(LONGEST, self.redis.run(script, &keys, &all, Patience::Behind)).await;
        let reply = reply.unwrap_or(Err(Trouble::Slow(LONGEST)))?;
        reply.into_array().try_into().map_err(|_| unexpected())
    }
}

impl Nodes {
    fn of(members: Reply, settling: &Reply) -> Result<Self, Trouble> {
        let settling = settling.int().and_then(|millis| u64::try_from(millis).ok()).ok_or_else(unexpected)?;
        Ok(Nodes { members: Member::all(members), settling: Duration::from_millis(settling) })
    }
}

impl Message {
    /// Reads one; `None` for those of other versions.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let kind = words.next()?;
        if kind == "left" {
            return Some(Message::Left(words.next()?.to_owned()));
        }
        let place = Shared { epoch: words.next()?.parse().ok()?, at: Position::parse(words.next()?.as_bytes())? };
        let instance = words.next()?.to_owned();
        match kind {
            "purged" => Some(Message::Purged { place, instance, wanted: words.next()? == "1" }),
            "applied" => Some(Message::Applied { place, instance }),
            _ => None,
        }
    }
}

fn unexpected() -> Trouble {
    Trouble::Unexpected("no log of purges".to_owned())
}

fn position(reply: &Reply) -> Option<Position> {
    Position::parse(reply.bytes()?)
}

fn place(epoch: &Reply, at: &Reply) -> Result<Shared, Trouble> {
    let epoch = epoch.bytes().and_then(|epoch| std::str::from_utf8(epoch).ok()?.parse().ok());
    epoch.zip(position(at)).map(|(epoch, at)| Shared { epoch, at }).ok_or_else(unexpected)
}

/// A record of the stream. One whose fields nobody here understands was written by a newer version, and purges what cannot be known.
fn received(reply: Reply, complaints: &Quiet) -> Option<Received> {
    let [id, fields] = <[Reply; 2]>::try_from(reply.into_array()).ok()?;
    let at = position(&id)?;
    let fields = fields.into_array();
    let field = |name: &[u8]| {
        let pairs = fields.chunks_exact(2).filter_map(|pair| Some((pair.first()?.bytes()?, pair.get(1)?.bytes()?)));
        pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    let record = || {
        let id = RecordId::from_bytes(field(b"r")?)?;
        Some(Record { id, soft: field(b"s")? == b"1", targets: Record::targets_from_bytes(field(b"t")?)? })
    };
    let record = record().unwrap_or_else(|| {
        if let Some(unlogged) = complaints.is_due() {
            tracing::error!(%at, unlogged, "a purge is not understood, so that it purges everything here; is this an older version than the others?");
        }
        Record { id: RecordId::random(), soft: false, targets: vec![Target::ALL] }
    });
    Some(Received { at, record })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(epoch: u64, at: &str) -> Shared {
        Shared { epoch, at: Position::parse(at.as_bytes()).unwrap() }
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        let purged =
            Message::Purged { place: place(18_000_000_000_000_000_000, "5-1"), instance: "a".into(), wanted: true };
        assert_eq!(Message::parse(b"purged 18000000000000000000 5-1 a 1"), Some(purged));
        let applied = Message::Applied { place: place(7, "5-0"), instance: "a".into() };
        assert_eq!(Message::parse(b"applied 7 5-0 a"), Some(applied));
        assert_eq!(Message::parse(b"left a"), Some(Message::Left("a".into())));
        for other in ["", "purged", "purged 1 x a 1", "purged x 1-1 a 1", "applied 1 1-1", "unheard 1 1-1 a", "\u{0}"] {
            assert_eq!(Message::parse(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn a_record_that_is_not_understood_purges_everything() {
        let bytes = |text: &[u8]| Reply::Bytes(text.to_vec());
        let record = Record::of(&[Target::tag("a")], true).remove(0);
        let stream = |fields: &[(&[u8], &[u8])]| {
            let fields = fields.iter().flat_map(|(name, value)| [bytes(name), bytes(value)]).collect();
            received(Reply::Array(vec![bytes(b"5-1"), Reply::Array(fields)]), &Quiet::default()).unwrap()
        };
        let (id, targets) = (record.id.to_bytes(), record.targets_to_bytes());
        let good: [(&[u8], &[u8]); 4] = [(b"t", &targets), (b"r", &id), (b"s", b"1"), (b"n", b"node")];
        assert_eq!(stream(&good).record, record);
        let damaged: [(&[u8], &[u8]); 3] = [(b"t", &targets[1..]), (b"r", &id), (b"s", b"1")];
        for fields in [&good[1..], &damaged, &[]] {
            let Received { at, record } = stream(fields);
            assert_eq!((at.to_string().as_str(), record.soft, record.targets), ("5-1", false, vec![Target::ALL]));
        }
    }
}
