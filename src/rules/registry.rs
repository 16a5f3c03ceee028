//! The list of built-in rules, and everything that is made from it.

/// Passes every built-in rule to a macro: module, then the structs that it declares.
macro_rules! for_each_rule {
    ($macro:ident) => {
        $macro! {
            sgd: Sgd;
            adam: Adam, AdamW;
            lion: Lion;
            adagrad: Adagrad;
            rmsprop: RmsProp;
            adadelta: Adadelta;
            adamax: Adamax;
            nadam: NAdam;
            radam: RAdam;
            adabelief: AdaBelief;
            yogi: Yogi;
            adan: Adan;
            ademamix: AdEMAMix;
            sophia: Sophia;
            rprop: Rprop;
            signsgd: SignSgd;
            schedule_free: ScheduleFreeSgd, ScheduleFreeAdamW;
            lars: Lars;
            lamb: Lamb;
            novograd: NovoGrad;
            prodigy: Prodigy;
            adafactor: Adafactor;
            stable_adamw: StableAdamW;
        }
    };
}
pub(crate) use for_each_rule;
