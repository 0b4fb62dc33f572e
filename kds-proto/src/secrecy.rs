//! `Debug` of messages that hold secrets: what is printed ends in logs, so the content is not printed.

use std::fmt;

use crate::kuma::system::v1alpha1::{Secret, data_source};

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.data.as_ref().map_or(0, Vec::len);
        write!(f, "Secret({bytes} bytes)")
    }
}

impl fmt::Debug for data_source::Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => f.debug_tuple("Secret").field(name).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Inline(data) => write!(f, "Inline({} bytes)", data.len()),
            Self::InlineString(text) => write!(f, "InlineString({} bytes)", text.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kuma::system::v1alpha1::DataSource;

    #[test]
    fn the_content_is_not_printed() {
        let secret = Secret { data: Some(b"hunter2".to_vec()) };
        let inline = DataSource { r#type: Some(data_source::Type::InlineString("hunter2".into())) };
        let named = DataSource { r#type: Some(data_source::Type::Secret("my-key".into())) };
        assert_eq!(format!("{secret:?}"), "Secret(7 bytes)");
        assert!(!format!("{inline:?}").contains("hunter2"));
        assert!(format!("{named:?}").contains("my-key"));
    }
}
