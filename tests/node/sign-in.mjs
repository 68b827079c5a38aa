// The pages of the issuer (issuer.mjs), as a person uses them.

const SUBMIT = "button.login-submit";

// signIn(PAGE, NAME): PAGE is on its way to the issuer's pages, or there. Types NAME, agrees to what is asked, and returns
// once the issuer has sent the browser away. Not for somebody who is signed in there already and is asked nothing.
export const signIn = async (page, name) => {
  await page.waitForSelector(SUBMIT);
  const issuer = new URL(page.url()).origin;
  while (new URL(page.url()).origin === issuer) {
    if ((await page.locator(SUBMIT).count()) === 0) {
      throw new Error(`the issuer does not let ${name} in: ${await page.innerText("body")}`);
    }
    if ((await page.inputValue('input[name="prompt"]')) === "login") {
      await page.fill('input[name="login"]', name);
      await page.fill('input[name="password"]', "any");
    }
    const before = page.url();
    await Promise.all([page.waitForURL((url) => url.href !== before), page.click(SUBMIT)]);
  }
};

// signOut(PAGE): PAGE is on its way to the issuer's question whether to sign out, or there. Says yes, and returns once the
// issuer has sent the browser on.
export const signOut = async (page) => {
  const yes = 'button[name="logout"][value="yes"]';
  await page.waitForSelector(yes);
  const before = page.url();
  await Promise.all([page.waitForURL((url) => url.href !== before), page.click(yes)]);
};
