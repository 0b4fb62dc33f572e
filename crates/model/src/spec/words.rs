//! Enumerations of words, as the JSON kinds have them.

/// Declares an enumeration whose values are words.
///
/// `words!(Name { Variant = "word", .. })` refuses other words when it is read. With `open` before the name it keeps
/// them in `Other`, and takes an absent member for the empty word: for the enumerations that a kind's own validation
/// speaks about, because what comes by KDS has not passed the schema. The schema lists the words alone, in the order
/// in which they stand here, which is the order in which the schema's complaint names them.
macro_rules! words {
    ($(#[$about:meta])* open $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)+
            /// A word that is none of these.
            Other(Box<str>),
        }

        impl $name {
            /// The word.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.into()),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word: Option<String> = serde::Deserialize::deserialize(deserializer)?;
                Ok(Self::from(word.unwrap_or_default().as_str()))
            }
        }

        $crate::spec::words::words!(@printed $name { $($word),+ });
    };

    ($(#[$about:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        $crate::spec::words::words!(@printed $name { $($word),+ });
    };

    (@printed $name:ident { $($word:literal),+ }) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    words!(
        /// Closed.
        Mode { Strict = "Strict", Permissive = "Permissive" }
    );
    words!(
        /// Open.
        open Size { Small = "S", Large = "L" }
    );

    #[derive(Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
    struct Shirt {
        size: Size,
    }

    #[test]
    fn a_closed_enumeration_refuses_other_words() {
        assert_eq!(serde_json::from_value::<Mode>(json!("Strict")).unwrap(), Mode::Strict);
        let fault = serde_json::from_value::<Mode>(json!("strict")).unwrap_err().to_string();
        assert!(fault.contains("`Strict`") && fault.contains("`Permissive`"), "{fault}");
    }

    #[test]
    fn an_open_enumeration_keeps_other_words_and_takes_absence_for_the_empty_one() {
        let shirt: Shirt = serde_json::from_value(json!({"size": "XXL"})).unwrap();
        assert_eq!(shirt.size, Size::Other("XXL".into()));
        assert_eq!(serde_json::to_value(&shirt).unwrap(), json!({"size": "XXL"}));
        assert_eq!(serde_json::from_value::<Shirt>(json!({})).unwrap().size.as_str(), "");
        serde_json::from_value::<Shirt>(json!({"size": 5})).unwrap_err();
    }

    #[test]
    fn the_schema_lists_the_words_in_order_and_demands_the_member() {
        let schema = schemars::schema_for!(Shirt);
        assert_eq!(schema.get("required"), Some(&json!(["size"])));
        assert_eq!(schemars::schema_for!(Mode).get("enum"), Some(&json!(["Strict", "Permissive"])));
        assert_eq!(schema.pointer("/$defs/Size/enum"), Some(&json!(["S", "L"])));
    }
}
