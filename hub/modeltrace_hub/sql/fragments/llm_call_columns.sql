-- What a span says about an LLM call: hub/modeltrace_hub/queries/llm_attributes.py reads the same in Python.
coalesce(attributes ->> '/gen_ai.operation.name', attributes ->> '/openinference.span.kind') AS operation,
coalesce(
    attributes ->> '/gen_ai.provider.name', attributes ->> '/gen_ai.system', attributes ->> '/llm.provider',
    attributes ->> '/llm.system'
) AS provider,
coalesce(
    attributes ->> '/gen_ai.request.model', attributes ->> '/llm.model_name', attributes ->> '/embedding.model_name',
    attributes ->> '/gen_ai.response.model'
) AS model,
attributes ->> '/gen_ai.response.model' AS response_model,
coalesce(
    attributes ->> '/gen_ai.usage.input_tokens', attributes ->> '/gen_ai.usage.prompt_tokens',
    attributes ->> '/llm.token_count.prompt'
) AS input_tokens_text,
coalesce(
    attributes ->> '/gen_ai.usage.output_tokens', attributes ->> '/gen_ai.usage.completion_tokens',
    attributes ->> '/llm.token_count.completion'
) AS output_tokens_text,
CASE WHEN regexp_full_match(input_tokens_text, '[0-9]{1,12}') THEN CAST(input_tokens_text AS BIGINT) END AS input_tokens,
CASE WHEN regexp_full_match(output_tokens_text, '[0-9]{1,12}') THEN CAST(output_tokens_text AS BIGINT) END AS output_tokens,
CASE
    WHEN (attributes ->> '/gen_ai.response.finish_reasons') IS NOT NULL THEN attributes -> '/gen_ai.response.finish_reasons'
    ELSE attributes -> '/llm.finish_reason'
END AS finish_reasons
