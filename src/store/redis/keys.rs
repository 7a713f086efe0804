//! Names in Redis, and the scripts that change what has them.

use crate::remote::Script;
use crate::store::entry::EntryId;

pub(super) static LOOKUP: Script = Script::new("lookup", include_str!("lookup.lua"));
pub(super) static STORE: Script = Script::new("store", include_str!("store.lua"));
pub(super) static PIECE: Script = Script::new("piece", include_str!("piece.lua"));
pub(super) static REMOVE: Script = Script::new("remove", include_str!("remove.lua"));
pub(super) static GIVE_WAY: Script = Script::new("give_way", include_str!("give_way.lua"));
pub(super) static RELEASE: Script = Script::new("release", include_str!("release.lua"));
pub(super) static RENEW: Script = Script::new("renew", include_str!("renew.lua"));

/// The keys of one id. What is in braces decides about the slot of a cluster, so that all of one primary id are in one.
#[derive(Debug)]
pub(super) struct Keys {
    /// Where its entry is.
    pub(super) entry: Vec<u8>,
    /// Where it says who fetches it.
    pub(super) lease: Vec<u8>,
    /// Its own name, in messages.
    pub(super) id: String,
}

impl Keys {
    pub(super) fn of(prefix: &str, id: &EntryId) -> Self {
        let primary = format!("{:032x}", id.primary);
        let variant = id.variant.map(|variant| format!(":{variant:032x}")).unwrap_or_default();
        Keys {
            entry: format!("{prefix}e:{{{primary}}}{variant}").into_bytes(),
            lease: format!("{prefix}l:{{{primary}}}{variant}").into_bytes(),
            id: format!("{primary}{variant}"),
        }
    }

    /// Where an entry is put together, the pieces of a long body first; another place for each attempt.
    pub(super) fn aside(prefix: &str, id: &EntryId) -> Vec<u8> {
        format!("{prefix}t:{{{:032x}}}:{:016x}", id.primary, fastrand::u64(..)).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_key_has_one_hash_tag() {
        let id = EntryId { primary: 0xab, variant: Some(0xcd) };
        let keys = Keys::of("p:", &id);
        let primary = "000000000000000000000000000000ab";
        let variant = "000000000000000000000000000000cd";
        assert_eq!(String::from_utf8(keys.entry).unwrap(), format!("p:e:{{{primary}}}:{variant}"));
        assert_eq!(String::from_utf8(keys.lease).unwrap(), format!("p:l:{{{primary}}}:{variant}"));
        assert_eq!(keys.id, format!("{primary}:{variant}"));
        let first = Keys::of("p:", &EntryId { variant: None, ..id });
        assert_eq!(String::from_utf8(first.entry).unwrap(), format!("p:e:{{{primary}}}"));
        let aside = String::from_utf8(Keys::aside("p:", &id)).unwrap();
        assert!(aside.starts_with(&format!("p:t:{{{primary}}}:")), "{aside}");
    }
}
