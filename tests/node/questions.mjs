// Questions of a test to a server of a test: JSON in, JSON out, below `/test/`.

// The most bytes of a question.
const BYTES = 64 * 1024;

// Answers REQUEST by the function in QUESTIONS that is called as its path ends.
export const answer = async (questions, request, response) => {
  const reply = (status, body) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body ?? {}));
  };
  try {
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) {
      text += chunk;
      if (text.length > BYTES) throw new Error("too long");
    }
    const question = questions[request.url.slice("/test/".length)];
    if (question) reply(200, await question(JSON.parse(text || "{}")));
    else reply(404);
  } catch (error) {
    reply(400, { error: String(error) });
  }
};
