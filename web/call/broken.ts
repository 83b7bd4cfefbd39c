const KEY = "call";

/** The call that this page was left in, kept by its token as long as the tab is. */
export const broken = {
  token: () => sessionStorage.getItem(KEY),
  keep: (token: string) => sessionStorage.setItem(KEY, token),
  forget: () => sessionStorage.removeItem(KEY),
};
