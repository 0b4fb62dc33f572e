//! Who may call, by the names in the client's certificate (zone-dataplane 8.2).

use kds_proto::envoy::config::rbac::v3::principal::{Identifier, Set};
use kds_proto::envoy::config::rbac::v3::rbac::Action;
use kds_proto::envoy::config::rbac::v3::{
    Action as NamedAction, Policy, Principal as PrincipalResource, Rbac, permission,
};
use kds_proto::envoy::extensions::matching::common_inputs::ssl::v3::UriSanInput;
use kds_proto::xds::r#type::matcher::v3::matcher::matcher_list::Predicate as PredicateResource;
use kds_proto::xds::r#type::matcher::v3::matcher::matcher_list::predicate::{
    MatchType, SinglePredicate, single_predicate,
};
use kds_proto::xds::r#type::matcher::v3::matcher::{MatcherType, OnMatch, on_match};
use kds_proto::xds::r#type::matcher::v3::{Matcher, string_matcher};
use prost::{Message, Name};

use super::san::Pattern;

/// What is asked of a client, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(Vec<Rules>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rules {
    /// Whoever is one of these is let in, or kept out.
    Policies { lets_in: bool, principals: Vec<Principal> },
    /// The first that fits counts; whoever none fits is kept out.
    Ordered(Vec<(Predicate, bool)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Principal {
    Anybody,
    /// One of whose names is so; `None`: who has a certificate.
    Named(Option<Pattern>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Predicate {
    /// What the names are, joined with commas.
    Names(Pattern),
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
}

impl Access {
    /// Adds what a filter asks.
    ///
    /// # Errors
    /// It asks for more than names in certificates.
    pub fn add(&mut self, rules: Option<&Rbac>, matcher: Option<&Matcher>) -> Result<(), String> {
        if let Some(rules) = rules {
            self.0.push(policies(rules)?);
        }
        if let Some(matcher) = matcher {
            self.0.push(Rules::Ordered(ordered(matcher)?));
        }
        Ok(())
    }

    /// Whether somebody with these identities may call.
    pub fn allows(&self, names: &[String]) -> bool {
        self.0.iter().all(|rules| match rules {
            Rules::Policies { lets_in, principals } => {
                principals.iter().any(|principal| principal.is(names)) == *lets_in
            }
            Rules::Ordered(rules) => {
                let joined = names.join(",");
                rules.iter().find(|(predicate, _)| predicate.fits(&joined)).is_some_and(|(_, lets_in)| *lets_in)
            }
        })
    }
}

impl Principal {
    fn is(&self, names: &[String]) -> bool {
        match self {
            Self::Anybody => true,
            Self::Named(None) => !names.is_empty(),
            Self::Named(Some(pattern)) => names.iter().any(|name| pattern.matches(name)),
            Self::All(all) => all.iter().all(|principal| principal.is(names)),
            Self::Any(any) => any.iter().any(|principal| principal.is(names)),
            Self::Not(other) => !other.is(names),
        }
    }

    fn read(principal: &PrincipalResource) -> Result<Self, String> {
        let set = |set: &Set| set.ids.iter().map(Self::read).collect::<Result<Vec<_>, _>>();
        match &principal.identifier {
            Some(Identifier::Any(true)) => Ok(Self::Anybody),
            Some(Identifier::AndIds(ids)) => Ok(Self::All(set(ids)?)),
            Some(Identifier::OrIds(ids)) => Ok(Self::Any(set(ids)?)),
            Some(Identifier::NotId(other)) => Ok(Self::Not(Box::new(Self::read(other)?))),
            Some(Identifier::Authenticated(by)) => {
                by.principal_name.as_ref().map(Pattern::read).transpose().map(Self::Named)
            }
            _ => Err("not supported by this router: a principal that is no name in a certificate".to_owned()),
        }
    }
}

fn policies(rules: &Rbac) -> Result<Rules, String> {
    let lets_in = match rules.action() {
        Action::Allow => true,
        Action::Deny => false,
        Action::Log => return Err("not supported by this router: rules that only log".to_owned()),
    };
    let mut principals = Vec::new();
    for policy in rules.policies.values() {
        whatever_is_asked(policy)?;
        let read: Result<Vec<_>, _> = policy.principals.iter().map(Principal::read).collect();
        principals.extend(read?);
    }
    Ok(Rules::Policies { lets_in, principals })
}

fn whatever_is_asked(policy: &Policy) -> Result<(), String> {
    let any = |permission: &kds_proto::envoy::config::rbac::v3::Permission| {
        matches!(permission.rule, Some(permission::Rule::Any(true)))
    };
    if policy.permissions.iter().any(any) && policy.condition.is_none() {
        return Ok(());
    }
    Err("not supported by this router: a permission for a part of the calls".to_owned())
}

fn ordered(matcher: &Matcher) -> Result<Vec<(Predicate, bool)>, String> {
    let mut rules = Vec::new();
    match &matcher.matcher_type {
        None => {}
        Some(MatcherType::MatcherList(list)) => {
            for field in &list.matchers {
                let predicate = field.predicate.as_ref().ok_or("a rule without a predicate")?;
                rules.push((Predicate::read(predicate)?, verdict(field.on_match.as_ref())?));
            }
        }
        Some(_) => return Err("not supported by this router: a matcher that is no list".to_owned()),
    }
    if let Some(otherwise) = &matcher.on_no_match
        && verdict(Some(otherwise))?
    {
        rules.push((Predicate::All(Vec::new()), true));
    }
    Ok(rules)
}

impl Predicate {
    fn fits(&self, joined: &str) -> bool {
        match self {
            Self::Names(pattern) => pattern.matches(joined),
            Self::Any(any) => any.iter().any(|predicate| predicate.fits(joined)),
            Self::All(all) => all.iter().all(|predicate| predicate.fits(joined)),
            Self::Not(other) => !other.fits(joined),
        }
    }

    fn read(predicate: &PredicateResource) -> Result<Self, String> {
        let all = |list: &[PredicateResource]| list.iter().map(Self::read).collect::<Result<Vec<_>, _>>();
        match &predicate.match_type {
            Some(MatchType::SinglePredicate(single)) => Self::single(single),
            Some(MatchType::OrMatcher(list)) => Ok(Self::Any(all(&list.predicate)?)),
            Some(MatchType::AndMatcher(list)) => Ok(Self::All(all(&list.predicate)?)),
            Some(MatchType::NotMatcher(other)) => Ok(Self::Not(Box::new(Self::read(other)?))),
            None => Err("a rule without a predicate".to_owned()),
        }
    }

    fn single(single: &SinglePredicate) -> Result<Self, String> {
        let unknown = || "not supported by this router: a rule about something else than names".to_owned();
        let input = single.input.as_ref().and_then(|input| input.typed_config.as_ref()).ok_or_else(unknown)?;
        if input.message_name() != UriSanInput::full_name() {
            return Err(unknown());
        }
        let Some(single_predicate::Matcher::ValueMatch(value)) = &single.matcher else { return Err(unknown()) };
        if value.ignore_case {
            return Err(unknown());
        }
        match &value.match_pattern {
            Some(string_matcher::MatchPattern::Exact(text)) => Ok(Self::Names(Pattern::Exact(text.clone()))),
            Some(string_matcher::MatchPattern::Prefix(text)) => Ok(Self::Names(Pattern::Prefix(text.clone()))),
            Some(string_matcher::MatchPattern::Suffix(text)) => Ok(Self::Names(Pattern::Suffix(text.clone()))),
            Some(string_matcher::MatchPattern::Contains(text)) => Ok(Self::Names(Pattern::Contains(text.clone()))),
            _ => Err(unknown()),
        }
    }
}

fn verdict(on_match: Option<&OnMatch>) -> Result<bool, String> {
    let unknown = || "not supported by this router: a rule without a verdict".to_owned();
    let Some(on_match::OnMatch::Action(action)) = on_match.and_then(|on_match| on_match.on_match.as_ref()) else {
        return Err(unknown());
    };
    let packed = action.typed_config.as_ref().filter(|packed| packed.message_name() == NamedAction::full_name());
    let action = NamedAction::decode(&*packed.ok_or_else(unknown)?.value).map_err(|error| error.to_string())?;
    match action.action() {
        Action::Allow => Ok(true),
        Action::Deny => Ok(false),
        Action::Log => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::json::{UnknownFields, from_value};
    use serde_json::{Value, json};

    use super::*;

    fn access(value: Value) -> Access {
        let rules: Rbac = from_value(value, UnknownFields::Refused).unwrap();
        let mut access = Access::default();
        access.add(Some(&rules), None).unwrap();
        access
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn without_rules_everybody_may_and_with_empty_ones_nobody() {
        assert!(Access::default().allows(&[]));
        assert!(!access(json!({})).allows(&names(&["spiffe://m/a"])));
    }

    /// The forms that permissions of both kinds have.
    #[test]
    fn names_in_the_certificate_decide() {
        let exact = |name: &str| json!({"authenticated": {"principalName": {"exact": name}}});
        let access = access(json!({"policies": {"p": {
            "permissions": [{"any": true}],
            "principals": [
                exact("spiffe://m/a"),
                {"andIds": {"ids": [exact("spiffe://m/b"), {"notId": exact("kuma://version/1")}]}},
            ],
        }}}));
        assert!(access.allows(&names(&["spiffe://m/x", "spiffe://m/a"])));
        assert!(access.allows(&names(&["spiffe://m/b", "kuma://version/2"])));
        assert!(!access.allows(&names(&["spiffe://m/b", "kuma://version/1"])));
        assert!(!access.allows(&names(&["spiffe://m/c"])));
    }

    #[test]
    fn of_ordered_rules_the_first_that_fits_counts() {
        let rule = |pattern: Value, action: &str| {
            json!({
                "predicate": {"singlePredicate": {
                    "input": {"name": "i", "typedConfig": {
                        "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput"}},
                    "valueMatch": pattern,
                }},
                "onMatch": {"action": {"name": "a", "typedConfig": {
                    "@type": "type.googleapis.com/envoy.config.rbac.v3.Action", "name": "a", "action": action}}},
            })
        };
        let matcher: Matcher = from_value(
            json!({"matcherList": {"matchers": [
                rule(json!({"exact": "spiffe://m/bad"}), "DENY"),
                rule(json!({"prefix": "spiffe://m/"}), "ALLOW"),
            ]}}),
            UnknownFields::Refused,
        )
        .unwrap();
        let mut access = Access::default();
        access.add(None, Some(&matcher)).unwrap();
        assert!(access.allows(&names(&["spiffe://m/good"])));
        assert!(!access.allows(&names(&["spiffe://m/bad"])));
        assert!(!access.allows(&names(&["spiffe://other/good"])));
    }

    #[test]
    fn what_is_about_more_than_names_is_refused() {
        let rules =
            json!({"policies": {"p": {"permissions": [{"destinationPort": 80}], "principals": [{"any": true}]}}});
        let rules: Rbac = from_value(rules, UnknownFields::Refused).unwrap();
        assert!(
            Access::default().add(Some(&rules), None).unwrap_err().contains("a permission for a part of the calls")
        );
    }
}
