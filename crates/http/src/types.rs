//! `types`: from file extensions to media types; and tables of media types for filters (`gzip_types`).
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#types>

use crate::{args::Args, core::CoreLoc};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use moonrest_core::ConfResult;
use parking_lot::Mutex;
use std::sync::Arc;

/// Media types by lower-case extension.
pub struct TypesConf(HashMap<Box<[u8]>, Bytes>);

impl Default for TypesConf {
    fn default() -> Self {
        let rows: [(&[u8], &'static [u8]); 3] =
            [(b"html", b"text/html"), (b"gif", b"image/gif"), (b"jpg", b"image/jpeg")];
        Self(rows.into_iter().map(|(ext, media)| (ext.into(), Bytes::from_static(media))).collect())
    }
}

/// A media type that every response can share without counting who does. It is kept for the life of the process;
/// generations of the configuration find it again.
pub(crate) fn shared(media: &[u8]) -> Bytes {
    static KNOWN: Mutex<HashSet<&'static [u8], std::hash::BuildHasherDefault<std::hash::DefaultHasher>>> =
        Mutex::new(HashSet::with_hasher(std::hash::BuildHasherDefault::new()));
    let mut known = KNOWN.lock();
    if let Some(text) = known.get(media) {
        return Bytes::from_static(text);
    }
    let text: &'static [u8] = Box::leak(media.into());
    known.insert(text);
    Bytes::from_static(text)
}

impl TypesConf {
    /// The media type for an extension, in any case.
    pub fn get(&self, extension: &[u8]) -> Option<&Bytes> {
        if extension.iter().any(u8::is_ascii_uppercase) {
            return self.0.get(&*extension.to_ascii_lowercase());
        }
        self.0.get(extension)
    }
}

/// Sets `types { TYPE EXT …; }`. A second block in the same place adds to the first.
pub(crate) fn set(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let mut map = match loc.types.take() {
        Some(known) => Arc::try_unwrap(known).map(|types| types.0).unwrap_or_else(|shared| shared.0.clone()),
        None => HashMap::new(),
    };
    for entry in args.block() {
        let media = shared(&entry.name.text);
        for ext in &entry.args {
            let key: Box<[u8]> = ext.text.to_ascii_lowercase().into();
            if let Some(old) = map.insert(key, media.clone()) {
                args.env.warn(
                    format!(
                        "duplicate extension \"{}\", content type: \"{}\", previous content type: \"{}\"",
                        ext.lossy(),
                        entry.name.lossy(),
                        String::from_utf8_lossy(&old)
                    ),
                    Some(ext.span),
                );
            }
        }
    }
    loc.types = Some(Arc::new(TypesConf(map)));
    Ok(())
}

/// A set of media types, as `gzip_types` and the like take it; `*` is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaTypes {
    all: bool,
    types: HashSet<Box<[u8]>>,
}

impl MediaTypes {
    /// A set of these types.
    pub fn of(types: &[&str]) -> Self {
        Self { all: false, types: types.iter().map(|t| t.as_bytes().into()).collect() }
    }

    /// Adds the arguments of a `*_types` directive.
    fn extend(&mut self, args: &Args<'_>) {
        for word in args.words() {
            if &*word.text == b"*" {
                self.all = true;
                continue;
            }
            if !self.types.insert(word.text.to_ascii_lowercase().into()) {
                args.env.warn(format!("duplicate MIME type \"{}\"", word.lossy()), Some(word.span));
            }
        }
    }

    /// Whether the media type (without parameters) is in the set.
    pub fn contains(&self, media_type: &[u8]) -> bool {
        if self.all {
            return true;
        }
        if media_type.iter().any(u8::is_ascii_uppercase) {
            return self.types.contains(&*media_type.to_ascii_lowercase());
        }
        self.types.contains(media_type)
    }
}

/// Sets a `*_types` directive; several lines in one block add up. `always` is in the set whatever is written (nginx:
/// `text/html`).
///
/// # Errors
/// None at present; duplicates are warned about.
pub fn set_types(slot: &mut Option<Arc<MediaTypes>>, args: &Args<'_>, always: &[&str]) -> ConfResult {
    Arc::make_mut(slot.get_or_insert_with(|| Arc::new(MediaTypes::of(always)))).extend(args);
    Ok(())
}
