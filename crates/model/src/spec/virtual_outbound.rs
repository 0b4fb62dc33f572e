//! `VirtualOutbound`: host names and ports made of the tags of services.

use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::mesh::v1alpha1::VirtualOutbound;
use kds_proto::kuma::mesh::v1alpha1::virtual_outbound::Conf;
use kds_proto::kuma::mesh::v1alpha1::virtual_outbound::conf::TemplateParameter;

use crate::labels::SERVICE_TAG;
use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::formats::is_dns_name;
use crate::spec::go_template::{RenderError, render};
use crate::spec::proto_json::quote;
use crate::spec::tags::{Rules, Tags, is_tag_name};
use crate::violation::{Path, Violations};

impl ProtoSpec for VirtualOutbound {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        Rules::ANY.check_selectors(&Path::of("selectors"), &self.selectors, found);
        let at = Path::of("conf");
        let Some(conf) = &self.conf else {
            found.add(&at, "has to be defined");
            return;
        };
        check_parameters(&at.field("parameters"), &conf.parameters, found);
        let tags = |value: &str| {
            conf.parameters.iter().map(|parameter| (tag(parameter).to_owned(), value.to_owned())).collect()
        };
        check_template(&at.field("host"), &conf.host, host(conf, &tags("dummy")), found);
        check_template(&at.field("port"), &conf.port, port(conf, &tags("1")), found);
    }
}

/// The host name that a service with these tags gets.
///
/// # Errors
/// The template makes no DNS name of them.
pub fn host(conf: &Conf, tags: &Tags) -> Result<String, String> {
    let made = evaluate(conf, &conf.host, tags)?;
    if is_dns_name(&made) {
        return Ok(made);
    }
    Err(format!("evaluation of template with parameters didn't return a valid dns name result={}", quote(&made)))
}

/// The port that a service with these tags gets.
///
/// # Errors
/// The template makes no port of them.
pub fn port(conf: &Conf, tags: &Tags) -> Result<u16, String> {
    let made = evaluate(conf, &conf.port, tags)?;
    let number: i64 = made.parse().map_err(|_| {
        let made = quote(&made);
        format!("evaluation of template with parameters didn't evaluate to a parsable number result={made}")
    })?;
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        format!("evaluation of template returned a port outside of the range [1..65535] result={number}")
    })
}

/// The tags of a service that the parameters stand for.
pub fn chosen(conf: &Conf, tags: &Tags) -> Tags {
    let keys = conf.parameters.iter().map(tag);
    keys.filter_map(|key| Some((key.to_owned(), tags.get(key)?.clone()))).collect()
}

fn evaluate(conf: &Conf, template: &str, tags: &Tags) -> Result<String, String> {
    let entries: BTreeMap<String, String> = conf
        .parameters
        .iter()
        .filter_map(|parameter| Some((parameter.name.clone(), tags.get(tag(parameter))?.clone())))
        .collect();
    render(template, &entries).map_err(|fault| match fault {
        RenderError::Parse(fault) => format!("failed compiling gotemplate error={}", quote(&fault)),
        RenderError::Execute(fault) => {
            format!("pre evaluation of template with parameters failed with error={}", quote(&fault))
        }
    })
}

/// The tag that a parameter stands for: its own name unless it says another.
fn tag(parameter: &TemplateParameter) -> &str {
    if parameter.tag_key.is_empty() { &parameter.name } else { &parameter.tag_key }
}

fn check_template<T>(at: &Path, template: &str, made: Result<T, String>, found: &mut Violations) {
    match made {
        _ if template.is_empty() => found.add(at, "has to be defined"),
        Err(fault) => found.add(at, format!("template pre evaluation failed with error={}", quote(&fault))),
        Ok(_) => {}
    }
}

fn check_parameters(at: &Path, parameters: &[TemplateParameter], found: &mut Violations) {
    let mut names = BTreeSet::new();
    for (position, parameter) in parameters.iter().enumerate() {
        let at = at.index(position);
        if !names.insert(&parameter.name) {
            found.add(&at.field("name"), "name is already used");
        }
        if !is_tag_name(&parameter.tag_key) {
            found.add(&at.field("tagKey"), "must be a valid tag name");
        }
        if parameter.tag_key.is_empty() && !is_tag_name(&parameter.name) {
            found.add(&at.field("name"), "must be a valid tag name if you are not setting tagKey");
        }
        if parameter.name.is_empty() || !parameter.name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            found.add(&at.field("name"), "must consist of alphanumeric characters to be used as a gotemplate key");
        }
    }
    if !parameters.iter().any(|parameter| parameter.tag_key == SERVICE_TAG) {
        found.add(at, format!("must contain a parameter with {SERVICE_TAG} as a tagKey"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    fn with(conf: Value) -> Vec<String> {
        faults(Kind::VirtualOutbound, json!({"selectors": [{"match": {"kuma.io/service": "*"}}], "conf": conf}))
    }

    #[test]
    fn host_and_port_are_made_of_tags() {
        let parameters = json!([{"name": "service", "tagKey": "kuma.io/service"}, {"name": "port"}]);
        let with = |host: &str, port: &str| with(json!({"host": host, "port": port, "parameters": parameters}));
        assert!(with("{{.service}}.mesh", "{{.port}}").is_empty());
        assert_eq!(with("", ""), ["conf.host: has to be defined", "conf.port: has to be defined"]);
        let failed = "template pre evaluation failed with error=";
        assert_eq!(
            with("a b", "{{.nope}}"),
            [
                format!(
                    r#"conf.host: {failed}"evaluation of template with parameters didn't return a valid dns name result=\"a b\"""#
                ),
                format!(
                    r#"conf.port: {failed}"evaluation of template with parameters didn't evaluate to a parsable number result=\"<no value>\"""#
                )
            ]
        );
        assert_eq!(
            with("{{.service", "70000"),
            [
                format!(r#"conf.host: {failed}"failed compiling gotemplate error=\"template: :1: unclosed action\"""#),
                format!(
                    r#"conf.port: {failed}"evaluation of template returned a port outside of the range [1..65535] result=70000""#
                )
            ]
        );
    }

    #[test]
    fn parameters_have_names_that_templates_can_use() {
        let parameters = json!([{"name": "a", "tagKey": "x y"}, {"name": "a"}, {"name": "b c"}]);
        assert_eq!(
            with(json!({"host": "a", "port": "1", "parameters": parameters})),
            [
                "conf.parameters[0].tagKey: must be a valid tag name",
                "conf.parameters[1].name: name is already used",
                "conf.parameters[2].name: must be a valid tag name if you are not setting tagKey",
                "conf.parameters[2].name: must consist of alphanumeric characters to be used as a gotemplate key",
                "conf.parameters: must contain a parameter with kuma.io/service as a tagKey"
            ]
        );
    }
}
