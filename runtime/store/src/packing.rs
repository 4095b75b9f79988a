//! How layers are packed: a compression, and how hard it tries.

use zstd::zstd_safe::CParameter;

use crate::decompress::Compression;

/// Levels of gzip that people can ask for, as zlib counts them.
const GZIP_LEVELS: std::ops::RangeInclusive<u8> = 0..=9;
/// The level of zlib that strake's own choice is as small as.
const GZIP_USUAL: u8 = 6;
/// Levels of zstd.
const ZSTD_LEVELS: std::ops::RangeInclusive<u8> = 1..=22;
/// The level of zstd that strake's own choice stands for.
const ZSTD_USUAL: u8 = 3;
/// From this level on the library's window is larger than the 8 MB that any reader must cope with (RFC 8878, 3.1.1.1.2).
const ZSTD_WIDE: u8 = 20;
const ZSTD_WINDOW_LOG: u32 = 23;

/// A compression with its level. Two of them are equal when they give the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Packing {
    /// What the blob is.
    pub compression: Compression,
    /// None: strake's own choice.
    level: Option<u8>,
}

/// A level that the compression does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    #[error("layers that are not compressed have no level")]
    NoLevels,
    #[error("expected a level from {least} to {most} for {}", compression.word())]
    Outside { compression: Compression, least: u8, most: u8 },
}

impl Packing {
    /// The compression as strake chooses it: as small as gzip's level 6, or zstd's level 3.
    pub const fn usual(compression: Compression) -> Packing {
        Packing { compression, level: None }
    }

    /// The compression at a level: of gzip 0 (nothing is compressed) to 9 as zlib counts them, of zstd 1 to 22.
    ///
    /// # Errors
    /// A level that there is not.
    pub fn at_level(compression: Compression, level: u8) -> Result<Packing, LevelError> {
        let (levels, usual) = match compression {
            Compression::None => return Err(LevelError::NoLevels),
            Compression::Gzip => (GZIP_LEVELS, GZIP_USUAL),
            Compression::Zstd => (ZSTD_LEVELS, ZSTD_USUAL),
        };
        if !levels.contains(&level) {
            return Err(LevelError::Outside { compression, least: *levels.start(), most: *levels.end() });
        }
        // What strake does without being asked has one form, and so one blob.
        Ok(Packing { compression, level: (level != usual).then_some(level) })
    }

    /// What the note about a blob so made ends in. Without a level it is what it was before there were levels.
    pub(crate) fn word(self) -> String {
        match self.level {
            None => self.compression.word().to_owned(),
            Some(level) => format!("{}-{level}", self.compression.word()),
        }
    }

    /// The level of the library that makes gzip: up to 9 they compare (its level 5 is as small as zlib's 6).
    pub(crate) fn deflate_level(self) -> Option<i32> {
        self.level.map(i32::from)
    }

    /// The level of zstd and what is set besides, when it is not strake's own choice.
    pub(crate) fn zstd_level(self) -> Option<(i32, Option<CParameter>)> {
        self.level.map(|level| (i32::from(level), (level >= ZSTD_WIDE).then_some(CParameter::WindowLog(ZSTD_WINDOW_LOG))))
    }
}

impl From<Compression> for Packing {
    fn from(compression: Compression) -> Packing {
        Packing::usual(compression)
    }
}

#[cfg(test)]
mod tests {
    use super::{LevelError, Packing};
    use crate::decompress::Compression;

    #[test]
    fn a_level_is_one_that_there_is() {
        for (compression, good, bad) in [(Compression::Gzip, &[0, 1, 9][..], &[10, 255][..]), (Compression::Zstd, &[1, 19, 22], &[0, 23])] {
            for level in good {
                let packing = Packing::at_level(compression, *level).unwrap();
                assert_eq!(packing.word(), format!("{}-{level}", compression.word()));
            }
            for level in bad {
                assert!(matches!(Packing::at_level(compression, *level), Err(LevelError::Outside { .. })), "{level}");
            }
        }
        assert_eq!(Packing::at_level(Compression::None, 1), Err(LevelError::NoLevels));
        assert_eq!(Packing::at_level(Compression::Gzip, 6).unwrap(), Compression::Gzip.into(), "the usual level is no other blob");
        assert_eq!(Packing::at_level(Compression::Zstd, 3).unwrap().word(), "zstd");
    }
}
