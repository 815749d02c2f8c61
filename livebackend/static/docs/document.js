// Reads the operations from the OpenAPI document. A text is a pair: English, Chinese.

/** Returns a part of the document; a reference is replaced by the part to which it refers. */
export function resolve(openapi, { $ref, ...part }) {
  if (!$ref) return part;
  const referenced = $ref.split("/").slice(1).reduce((parent, name) => parent[name], openapi);
  return { ...referenced, ...part };
}

/** Returns the description of a schema or header in both languages, or null. */
export const meaningOf = ({ description, "x-zh": chinese }) =>
  chinese ? [description, chinese] : null;

/** Returns the sections of the API with their operations, in the order of the document. */
export function readChapters(openapi) {
  const operations = Object.entries(openapi.paths).map(([path, { post }]) =>
    readOperation(openapi, path, post),
  );
  return openapi.tags.map((tag) => ({
    title: [tag.name, tag["x-zh"]],
    description: [tag.description, tag["x-zh-description"]],
    operations: operations.filter(({ chapter }) => chapter === tag.name),
  }));
}

function readOperation(openapi, path, post) {
  const [{ schema: form }] = Object.values(post.requestBody.content);
  const request = resolve(openapi, form);
  const { schema: body, examples } = post.responses[200].content["application/json"];
  const response = resolve(openapi, body.oneOf[0]);
  const selector = post["x-selector"];
  return {
    name: post.operationId,
    chapter: post.tags[0],
    title: [post.summary, post["x-zh"]],
    description: [post.description, post["x-zh-description"]],
    path: path.split("#")[0],
    paths: post["x-paths"],
    selector,
    isExtension: post["x-extension"],
    isIdempotent: post["x-idempotent"],
    alreadyDone: post["x-already-done"],
    parameters: Object.entries(request.properties)
      .filter(([name]) => name !== selector)
      .map(([name, schema]) => ({ name, schema, required: request.required.includes(name) })),
    // The error reasons by result code.
    errors: post["x-errors"],
    response,
    example: examples.success.value,
    returnsToken: response.properties.message["x-login-token"] === true,
  };
}

export const hasParameter = (operation, name) =>
  operation.parameters.some((parameter) => parameter.name === name);

export const needsLogin = (operation) =>
  operation.parameters.some(({ schema }) => schema["x-login-token"]);
