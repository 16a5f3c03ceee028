//! Configuration files: PyTorch's parameter groups, and numbers that JSON lacks.

use serde_json::{Value, json};
use wgpu_optim::{Adam, AdamW, Layout, Optimizer, OptimizerBuilder, RuleConfig};

/// `golden/param_groups.json` holds groups with default options.
#[test]
fn parameter_groups_of_pytorch_load_as_the_defaults() {
    let groups: Vec<Value> = serde_json::from_str(include_str!("../golden/param_groups.json")).unwrap();
    assert_eq!(groups.len(), 22);
    for group in groups {
        let rule: RuleConfig = serde_json::from_value(group.clone()).unwrap_or_else(|error| panic!("{group}: {error}"));
        assert_eq!(rule, serde_json::from_value(json!({ "name": group["name"] })).unwrap(), "{group}");
    }
}

#[test]
fn decoupled_adam_is_adamw() {
    let group = json!({"name": "adam", "weight_decay": 0.25, "decoupled_weight_decay": true, "fused": true});
    let adam: RuleConfig = serde_json::from_value(group).unwrap();
    assert_eq!(adam, RuleConfig::Adam(Adam::default().with_weight_decay(0.25).with_decoupled_weight_decay(true)));
    let stepped = |builder: OptimizerBuilder| {
        let mut optimizer = builder.build_cpu(&Layout::flat(2).unwrap()).unwrap();
        let mut params = [1.0, -2.0];
        for grads in [[0.5, 0.25], [-1.0, 4.0]] {
            optimizer.step(&mut params, &grads).unwrap();
        }
        params
    };
    assert_eq!(stepped(adam.builder()), stepped(Optimizer::builder(AdamW::default().with_weight_decay(0.25))));
}
